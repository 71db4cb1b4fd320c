package volume

import (
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// An ephemeral volume is what its claim is bound to, if the claim is the pod's
// own; until it is there, the pod waits for it.
func TestEphemeralVolume(t *testing.T) {
	m := newManager(t)
	pod := podWith(volumeOf("work", corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}))
	disk := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "disk"}}
	disk.Spec.Local = &corev1.LocalVolumeSource{Path: t.TempDir()}
	is := true
	owned := []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID, Controller: &is}}
	with := func(owners []metav1.OwnerReference, volume string) refs {
		claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "lamp-work", OwnerReferences: owners}}
		claim.Spec.VolumeName = volume
		return refs{claims: map[string]*corev1.PersistentVolumeClaim{"default/lamp-work": claim}, volumes: map[string]*corev1.PersistentVolume{"disk": disk}}
	}
	for name, tc := range map[string]struct {
		refs refs
		want string
		come bool // it may yet
	}{
		"no claim yet":         {refs{}, "persistentVolumeClaim default/lamp-work not found", true},
		"not bound yet":        {with(owned, ""), "is not bound to a volume", true},
		"somebody else's":      {with(nil, "disk"), "was not created for pod", false},
		"its volume is not in": {with(owned, "other"), "persistentVolume other of claim default/lamp-work", true},
	} {
		_, err := m.Prepare(t.Context(), pod, tc.refs)
		if err == nil || !strings.Contains(err.Error(), tc.want) || errors.Is(err, ErrMissingReference) != tc.come {
			t.Errorf("%s: %v", name, err)
		}
	}
	if path := mustPrepare(t, m, pod, with(owned, "disk"))["work"]; path != disk.Spec.Local.Path {
		t.Errorf("it is at %s", path)
	}
}
