package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// ErrMissingReference is in the chain of every *MissingReferenceError.
var ErrMissingReference = errors.New("missing reference")

// MissingReferenceError names a config map, a secret, a key in one, or another
// thing that a volume needs and that is not there.
type MissingReferenceError struct {
	Kind, Namespace, Name string
	Key                   string // empty: the object itself is missing
}

func (e *MissingReferenceError) Error() string {
	if e.Key != "" {
		return fmt.Sprintf("%s %s/%s has no key %q", e.Kind, e.Namespace, e.Name, e.Key)
	}
	return fmt.Sprintf("%s %s/%s not found", e.Kind, e.Namespace, e.Name)
}

// Unwrap makes errors.Is find ErrMissingReference.
func (e *MissingReferenceError) Unwrap() error { return ErrMissingReference }

// file is one file of a volume.
type file struct {
	data []byte
	mode fs.FileMode
	user int // -1: whoever wrote it
}

// projection is what a volume asks for of a config map or a secret.
type projection struct {
	kind, name  string
	items       []corev1.KeyToPath
	defaultMode fs.FileMode
	optional    bool
}

// isGenerated reports whether a volume's files are written here.
func isGenerated(v *corev1.VolumeSource) bool {
	return v.ConfigMap != nil || v.Secret != nil || v.DownwardAPI != nil || v.Projected != nil
}

// inMemory reports whether they must not reach a disk.
func inMemory(v *corev1.VolumeSource) bool {
	return v.Secret != nil || v.Projected != nil
}

// renderer lays out the files of one pod's volumes.
type renderer struct {
	pod  *corev1.Pod
	refs Refs
}

// render looks up what a volume is made of and lays out its files by path.
func (r renderer) render(v *corev1.VolumeSource) (map[string]file, error) {
	switch {
	case v.ConfigMap != nil:
		return r.configMap(projection{"configMap", v.ConfigMap.Name, v.ConfigMap.Items, modeOf(v.ConfigMap.DefaultMode), isTrue(v.ConfigMap.Optional)})
	case v.Secret != nil:
		return r.secret(projection{"secret", v.Secret.SecretName, v.Secret.Items, modeOf(v.Secret.DefaultMode), isTrue(v.Secret.Optional)})
	case v.DownwardAPI != nil:
		return r.downward(v.DownwardAPI.Items, modeOf(v.DownwardAPI.DefaultMode))
	}
	return r.projected(v.Projected)
}

// projected puts several sources into one volume; a later one's files replace
// an earlier one's.
func (r renderer) projected(v *corev1.ProjectedVolumeSource) (map[string]file, error) {
	files := map[string]file{}
	var errs []error
	for i := range v.Sources {
		part, err := r.source(&v.Sources[i], modeOf(v.DefaultMode))
		if err != nil {
			errs = append(errs, err)
		}
		maps.Copy(files, part)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return files, nil
}

func (r renderer) source(s *corev1.VolumeProjection, mode fs.FileMode) (map[string]file, error) {
	switch {
	case s.ConfigMap != nil:
		return r.configMap(projection{"configMap", s.ConfigMap.Name, s.ConfigMap.Items, mode, isTrue(s.ConfigMap.Optional)})
	case s.Secret != nil:
		return r.secret(projection{"secret", s.Secret.Name, s.Secret.Items, mode, isTrue(s.Secret.Optional)})
	case s.DownwardAPI != nil:
		return r.downward(s.DownwardAPI.Items, mode)
	case s.ServiceAccountToken != nil:
		return r.token(s.ServiceAccountToken, mode)
	}
	return nil, errors.New("a source of this kind is not supported here yet: use configMap, secret, downwardAPI or serviceAccountToken")
}

func (r renderer) configMap(want projection) (map[string]file, error) {
	object, found := r.refs.ConfigMap(r.pod.Namespace, want.name)
	if !found {
		return layOutMissing(r.pod.Namespace, want)
	}
	return layOut(r.pod.Namespace, want, configMapData(object))
}

func (r renderer) secret(want projection) (map[string]file, error) {
	object, found := r.refs.Secret(r.pod.Namespace, want.name)
	if !found {
		return layOutMissing(r.pod.Namespace, want)
	}
	return layOut(r.pod.Namespace, want, object.Data)
}

func layOutMissing(namespace string, want projection) (map[string]file, error) {
	if !want.optional {
		return nil, &MissingReferenceError{Kind: want.kind, Namespace: namespace, Name: want.name}
	}
	return layOut(namespace, want, nil)
}

// layOut chooses keys and paths. Pure.
func layOut(namespace string, want projection, data map[string][]byte) (map[string]file, error) {
	files := map[string]file{}
	if len(want.items) == 0 {
		for key, value := range data {
			if err := checkPath(key); err != nil {
				return nil, err
			}
			files[key] = file{value, want.defaultMode, -1}
		}
		return files, nil
	}
	for _, item := range want.items {
		value, ok := data[item.Key]
		if !ok {
			if want.optional {
				continue
			}
			return nil, &MissingReferenceError{want.kind, namespace, want.name, item.Key}
		}
		if err := checkPath(item.Path); err != nil {
			return nil, err
		}
		files[path.Clean(item.Path)] = file{value, itemMode(item.Mode, want.defaultMode), -1}
	}
	return files, nil
}

// downward writes what a pod may know of itself.
func (r renderer) downward(items []corev1.DownwardAPIVolumeFile, mode fs.FileMode) (map[string]file, error) {
	files := map[string]file{}
	for i := range items {
		item := &items[i]
		var value string
		var err error
		switch {
		case item.FieldRef != nil:
			value, err = r.refs.Field(r.pod, item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil:
			value, err = r.refs.Resource(r.pod, item.ResourceFieldRef)
		}
		if err == nil {
			err = checkPath(item.Path)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", item.Path, err)
		}
		files[path.Clean(item.Path)] = file{[]byte(value), itemMode(item.Mode, mode), -1}
	}
	return files, nil
}

// defaultTokenSeconds is how long a token lives that says nothing of it.
const defaultTokenSeconds = 3600

// token writes a token of the pod's service account, which only the pod's user
// or group may read where it has one.
func (r renderer) token(s *corev1.ServiceAccountTokenProjection, mode fs.FileMode) (map[string]file, error) {
	seconds := int64(defaultTokenSeconds)
	if s.ExpirationSeconds != nil {
		seconds = *s.ExpirationSeconds
	}
	token, ok := r.refs.Token(r.pod, s.Audience, seconds)
	if !ok {
		return nil, &MissingReferenceError{Kind: "token of service account", Namespace: r.pod.Namespace, Name: r.pod.Spec.ServiceAccountName}
	}
	if err := checkPath(s.Path); err != nil {
		return nil, err
	}
	user := onlyUser(r.pod)
	if user >= 0 || fsGroup(r.pod) >= 0 {
		mode = 0o600
	}
	return map[string]file{path.Clean(s.Path): {[]byte(token), mode, user}}, nil
}

// onlyUser is the user that all of a pod's containers are said to run as, or
// -1.
func onlyUser(pod *corev1.Pod) int {
	user := int64(-1)
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			of := userOf(pod, &list[i])
			if of < 0 || user >= 0 && user != of {
				return -1
			}
			user = of
		}
	}
	return int(user)
}

func userOf(pod *corev1.Pod, c *corev1.Container) int64 {
	if sc := c.SecurityContext; sc != nil && sc.RunAsUser != nil {
		return *sc.RunAsUser
	}
	if sc := pod.Spec.SecurityContext; sc != nil && sc.RunAsUser != nil {
		return *sc.RunAsUser
	}
	return -1
}

// checkPath keeps a file inside its volume and off the names that updates use.
func checkPath(name string) error {
	clean := path.Clean(name)
	if name == "" || path.IsAbs(name) || clean == "." || strings.HasPrefix(clean, "..") || strings.ContainsRune(name, 0) {
		return fmt.Errorf("path %q: must be relative and not start with \"..\"", name)
	}
	return nil
}

func configMapData(object *corev1.ConfigMap) map[string][]byte {
	data := make(map[string][]byte, len(object.Data)+len(object.BinaryData))
	for key, value := range object.Data {
		data[key] = []byte(value)
	}
	maps.Copy(data, object.BinaryData)
	return data
}

func itemMode(mode *int32, otherwise fs.FileMode) fs.FileMode {
	if mode == nil {
		return otherwise
	}
	return modeOf(mode)
}

func modeOf(mode *int32) fs.FileMode {
	if mode == nil {
		return 0o644
	}
	return fs.FileMode(*mode) & fs.ModePerm
}

func isTrue(b *bool) bool { return b != nil && *b }
