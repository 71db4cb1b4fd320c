package registry_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/registry/memory"
)

// TestDryRun: a dry run answers as the write would, errors included, and
// leaves the store as it was.
func TestDryRun(t *testing.T) {
	r := newRegistries(t)
	must[schema.Object](t)(r.Create(t.Context(), pod("a", "")))
	held := must[schema.Object](t)(r.Create(t.Context(), service("held", "", 0))).(*corev1.Service)
	before := r.Store().(*memory.Store).Dump()

	changed := must[schema.Object](t)(r.Get(t.Context(), schema.Pods.Key("default", "a"))).DeepCopyObject().(*corev1.Pod)
	version := changed.ResourceVersion
	changed.Labels = map[string]string{"a": "b"}
	stale := changed.DeepCopy()
	stale.ResourceVersion = "1"
	stray := pod("x", "")
	stray.Namespace = "nowhere"
	for name, tc := range map[string]struct {
		write   registry.Write
		version string
		is      func(error) bool
	}{
		"create":            {registry.Write{Create: pod("b", "")}, "", nil},
		"create a service":  {registry.Write{Create: service("b", "", 0)}, "", nil},
		"create twice":      {registry.Write{Create: pod("a", "")}, "", apierrors.IsAlreadyExists},
		"create nowhere":    {registry.Write{Create: stray}, "", apierrors.IsNotFound},
		"address taken":     {registry.Write{Create: service("b", held.Spec.ClusterIP, 0)}, "", apierrors.IsInvalid},
		"update":            {registry.Write{Update: changed}, version, nil},
		"update, old":       {registry.Write{Update: stale}, "", apierrors.IsConflict},
		"delete":            {registry.Write{Delete: &registry.Deletion{Key: schema.KeyOf(changed)}}, "", nil},
		"delete, wrong UID": {registry.Write{Delete: &registry.Deletion{Key: schema.KeyOf(changed), UID: "x"}}, "", apierrors.IsConflict},
		"bind nowhere":      {registry.Write{Create: &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a"}, Target: corev1.ObjectReference{Name: "n"}}}, "", apierrors.IsNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := r.DryRun(t.Context(), tc.write)
			switch {
			case tc.is != nil && !tc.is(err):
				t.Errorf("error: %v", err)
			case tc.is == nil && err != nil:
				t.Error(err)
			case err == nil && got != nil && got.GetResourceVersion() != tc.version:
				t.Errorf("resourceVersion %q, want %q", got.GetResourceVersion(), tc.version)
			}
			if diff := cmp.Diff(before, r.Store().(*memory.Store).Dump()); diff != "" {
				t.Errorf("the store changed (-before +after):\n%s", diff)
			}
		})
	}
}
