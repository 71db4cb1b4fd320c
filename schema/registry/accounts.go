package registry

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/schema"
)

// What Kubernetes' admission plugin ServiceAccount gives to a pod, so that
// what runs in it can speak to the API.
const (
	DefaultAccount   = "default"
	RootCAName       = "kube-root-ca.crt" // config map with the key ca.crt, in every namespace
	accessVolume     = "kube-api-access-"
	accessPath       = "/var/run/secrets/kubernetes.io/serviceaccount"
	tokenSeconds     = 3607 // Kubernetes' WarnOnlyBoundTokenExpiration
	rootCAKey        = "ca.crt"
	mirrorAnnotation = corev1.MirrorPodAnnotationKey
)

// accounts are the service accounts that the writes of a batch meet, each read
// once.
type accounts struct {
	r     *Registries
	found map[schema.Key]*corev1.ServiceAccount
}

// newAccounts knows those that the batch itself makes.
func newAccounts(r *Registries, writes []Write) *accounts {
	a := &accounts{r: r, found: map[schema.Key]*corev1.ServiceAccount{}}
	if !r.cfg.ServiceAccounts {
		return a
	}
	for _, w := range writes {
		if sa, ok := w.Create.(*corev1.ServiceAccount); ok {
			a.found[schema.ServiceAccounts.Key(namespaceOf(sa), sa.Name)] = sa
		}
	}
	return a
}

func namespaceOf(obj schema.Object) string {
	if ns := obj.GetNamespace(); ns != "" {
		return ns
	}
	return metav1.NamespaceDefault
}

// get returns an account. The default one, which every namespace is given, may
// be missing still.
func (a *accounts) get(ctx context.Context, key schema.Key) (*corev1.ServiceAccount, error) {
	if sa := a.found[key]; sa != nil {
		return sa, nil
	}
	cur, err := a.r.read(ctx, key)
	sa, _ := cur.object.(*corev1.ServiceAccount)
	switch {
	case apierrors.IsNotFound(err) && key.Name == DefaultAccount:
		sa = &corev1.ServiceAccount{}
	case err != nil:
		return nil, err
	}
	a.found[key] = sa
	return sa, nil
}

// admit gives a new pod its service account, and the account's pull secrets
// and access to the API, where it does not say otherwise.
func (a *accounts) admit(ctx context.Context, pod *corev1.Pod) error {
	if _, mirror := pod.Annotations[mirrorAnnotation]; mirror || !a.r.cfg.ServiceAccounts {
		return nil
	}
	if pod.Spec.ServiceAccountName == "" {
		pod.Spec.ServiceAccountName = DefaultAccount
	}
	pod.Spec.DeprecatedServiceAccount = pod.Spec.ServiceAccountName
	key := schema.ServiceAccounts.Key(pod.Namespace, pod.Spec.ServiceAccountName)
	sa, err := a.get(ctx, key)
	if apierrors.IsNotFound(err) {
		why := fmt.Errorf("error looking up service account %s/%s: %w", key.Namespace, key.Name, err)
		return apierrors.NewForbidden(groupResource(schema.Pods.Resource), pod.Name, why)
	}
	if err != nil {
		return err
	}
	if len(pod.Spec.ImagePullSecrets) == 0 {
		pod.Spec.ImagePullSecrets = slices.Clone(sa.ImagePullSecrets)
	}
	if wantsAccess(pod, sa) {
		giveAccess(pod)
	}
	return nil
}

func wantsAccess(pod *corev1.Pod, sa *corev1.ServiceAccount) bool {
	for _, says := range []*bool{pod.Spec.AutomountServiceAccountToken, sa.AutomountServiceAccountToken} {
		if says != nil {
			return *says
		}
	}
	return true
}

// giveAccess mounts a token, the API's authority and the namespace into every
// container that has nothing else in that place.
func giveAccess(pod *corev1.Pod) {
	i := slices.IndexFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return strings.HasPrefix(v.Name, accessVolume) })
	name := ""
	if i >= 0 {
		name = pod.Spec.Volumes[i].Name
	} else {
		name = generateName(accessVolume)
	}
	mounted := false
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			c := &containers[i]
			if slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == accessPath }) {
				continue
			}
			c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: name, ReadOnly: true, MountPath: accessPath})
			mounted = true
		}
	}
	if mounted && i < 0 {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Projected: accessSource()}})
	}
}

func accessSource() *corev1.ProjectedVolumeSource {
	rootCA := corev1.LocalObjectReference{Name: RootCAName}
	return &corev1.ProjectedVolumeSource{
		DefaultMode: new(int32(corev1.ProjectedVolumeSourceDefaultMode)),
		Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: new(int64(tokenSeconds))}},
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: rootCA, Items: []corev1.KeyToPath{{Key: rootCAKey, Path: rootCAKey}}}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
				{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"}},
			}}},
		},
	}
}
