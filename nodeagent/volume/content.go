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

// MissingReferenceError names a config map, a secret, or a key in one, that a
// volume needs and that is not there.
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
}

// projection is what a config map or a secret volume asks for.
type projection struct {
	kind, name  string
	items       []corev1.KeyToPath
	defaultMode fs.FileMode
	optional    bool
}

// render looks up a volume's object and lays out its files by path.
func render(namespace string, volume *corev1.Volume, refs Refs) (map[string]file, error) {
	var want projection
	var data map[string][]byte
	var found bool
	if source := volume.ConfigMap; source != nil {
		want = projection{"configMap", source.Name, source.Items, modeOf(source.DefaultMode), isTrue(source.Optional)}
		var object *corev1.ConfigMap
		if object, found = refs.ConfigMap(namespace, source.Name); found {
			data = configMapData(object)
		}
	} else {
		source := volume.Secret
		want = projection{"secret", source.SecretName, source.Items, modeOf(source.DefaultMode), isTrue(source.Optional)}
		var object *corev1.Secret
		if object, found = refs.Secret(namespace, source.SecretName); found {
			data = object.Data
		}
	}
	if !found && !want.optional {
		return nil, &MissingReferenceError{Kind: want.kind, Namespace: namespace, Name: want.name}
	}
	return layOut(namespace, want, data)
}

// layOut chooses keys and paths. Pure.
func layOut(namespace string, want projection, data map[string][]byte) (map[string]file, error) {
	files := map[string]file{}
	if len(want.items) == 0 {
		for key, value := range data {
			if err := checkPath(key); err != nil {
				return nil, err
			}
			files[key] = file{value, want.defaultMode}
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
		mode := want.defaultMode
		if item.Mode != nil {
			mode = modeOf(item.Mode)
		}
		files[path.Clean(item.Path)] = file{value, mode}
	}
	return files, nil
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

func modeOf(mode *int32) fs.FileMode {
	if mode == nil {
		return 0o644
	}
	return fs.FileMode(*mode) & fs.ModePerm
}

func isTrue(b *bool) bool { return b != nil && *b }
