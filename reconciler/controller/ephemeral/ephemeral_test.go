package ephemeral_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/reconciler/controller/controllertest"
	"github.com/evenkeel/evenkeel/reconciler/controller/ephemeral"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

func run(t *testing.T, test func(w *controllertest.World)) {
	controllertest.Run(t, func(w *controllertest.World) {
		w.Start(func(ctx context.Context) error {
			return ephemeral.Run(ctx, ephemeral.Config{Writer: w.Writer, Recorder: w, Logger: w.Logger})
		})
		test(w)
	})
}

func gibibyte() corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
}

func pod(name string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	p.Spec.Containers = []corev1.Container{{Name: "main", Image: "lamp:1"}}
	template := &corev1.PersistentVolumeClaimTemplate{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"disk": "scratch"}}}
	template.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	template.Spec.Resources.Requests = gibibyte()
	p.Spec.Volumes = []corev1.Volume{{Name: "work", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: template}}}}
	return p
}

func claimed(w *controllertest.World, name string) *corev1.PersistentVolumeClaim {
	w.T.Helper()
	w.Revision()
	claim, _ := registry.GetOf[*corev1.PersistentVolumeClaim](w.Writer.Mirror, schema.PersistentVolumeClaims, "default", name)
	return claim
}

// A pod's claim is made as its template says, owned by the pod, and made again
// if somebody deletes it.
func TestEphemeralClaims(t *testing.T) {
	run(t, func(w *controllertest.World) {
		made := w.Create(pod("web"))
		claim := claimed(w, "web-work")
		if claim == nil {
			t.Fatal("no claim was made")
		}
		is := true
		want := metav1.ObjectMeta{Labels: map[string]string{"disk": "scratch"}, OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "v1", Kind: "Pod", Name: "web", UID: made.GetUID(), Controller: &is, BlockOwnerDeletion: &is},
		}}
		if diff := cmp.Diff(want, metav1.ObjectMeta{Labels: claim.Labels, OwnerReferences: claim.OwnerReferences}); diff != "" {
			t.Errorf("claim (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(pod("web").Spec.Volumes[0].Ephemeral.VolumeClaimTemplate.Spec, claim.Spec); diff != "" {
			t.Errorf("claim (-want +got):\n%s", diff)
		}
		w.Delete(schema.KeyOf(claim), nil)
		if again := claimed(w, "web-work"); again == nil || again.UID == claim.UID {
			t.Errorf("after somebody deleted it: %v", again)
		}
	})
}

// A claim of the name that is somebody else's is not touched, and the pod is
// told, until it has gone.
func TestForeignClaim(t *testing.T) {
	run(t, func(w *controllertest.World) {
		foreign := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-work"}}
		foreign.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
		foreign.Spec.Resources.Requests = gibibyte()
		w.Create(foreign)
		w.Events()
		made := w.Create(pod("web"))
		want := []string{
			`pods/default/web FailedBinding: ephemeral volume work: PVC default/web-work was not created for pod default/web (pod is not owner): delete the claim, or rename pod or volume`,
		}
		if diff := cmp.Diff(want, w.Events()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if got := claimed(w, "web-work"); len(got.OwnerReferences) > 0 {
			t.Errorf("the claim was taken: %v", got.OwnerReferences)
		}
		w.Delete(schema.KeyOf(foreign), nil)
		if got := claimed(w, "web-work"); got == nil || len(got.OwnerReferences) != 1 || got.OwnerReferences[0].UID != made.GetUID() {
			t.Errorf("after it has gone: %v", got)
		}
	})
}
