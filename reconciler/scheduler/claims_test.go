package scheduler_test

import (
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/reconciler/volumes"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

var storage = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}

// localVolume is a volume of the class "local" on one node.
func localVolume(name, node string) *corev1.PersistentVolume {
	v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}}
	v.Spec.Capacity, v.Spec.StorageClassName = storage, "local"
	v.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
		MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{node}}},
	}}}}
	return v
}

func claimOf(name, class string) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	c.Spec.StorageClassName = &class
	c.Spec.Resources.Requests = storage
	return c
}

func claiming(name, claim string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	p.Spec.Volumes = []corev1.Volume{{Name: "d", VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
	}}}
	return p
}

// bindClaim does what the binder does.
func (c *cluster) bindClaim(claim, volume string) {
	c.t.Helper()
	_, err := c.all.Mutate(c.t.Context(), schema.PersistentVolumeClaims.Key("default", claim), func(o schema.Object) error {
		o.(*corev1.PersistentVolumeClaim).Spec.VolumeName = volume
		o.SetAnnotations(map[string]string{volumes.BindCompleted: "yes"})
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) placeOf(pod string) (node, why string) {
	c.t.Helper()
	synctest.Wait()
	obj, err := c.all.Get(c.t.Context(), schema.Pods.Key("default", pod))
	if err != nil {
		c.t.Fatal(err)
	}
	for _, condition := range obj.(*corev1.Pod).Status.Conditions {
		why = condition.Message
	}
	return obj.(*corev1.Pod).Spec.NodeName, why
}

// TestClaimsOfPods: a pod goes only where its volumes are, and waits for
// claims that have none; where a claim waits for it, the scheduler says on the
// claim where it will run.
func TestClaimsOfPods(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.node("n1", "8")
		c.node("n2", "4")
		wait := storagev1.VolumeBindingWaitForFirstConsumer
		c.create(&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "local"}, VolumeBindingMode: &wait})
		c.create(localVolume("v1", "n2"))
		c.create(claiming("p", "c"))
		if node, why := c.placeOf("p"); node != "" || why != `0/2 nodes are available: persistentvolumeclaim "c" not found.` {
			t.Errorf("without a claim: on %q: %s", node, why)
		}
		c.create(claimOf("c", "local"))
		if node, _ := c.placeOf("p"); node != "" {
			t.Errorf("before any volume is there: on %q", node)
		}
		available := localVolume("v1", "n2")
		available.Status.Phase = corev1.VolumeAvailable
		if _, err := c.all.UpdateStatus(t.Context(), available); err != nil {
			t.Fatal(err)
		}
		if node, why := c.placeOf("p"); node != "" || why != "waiting for its volumes on n2" {
			t.Errorf("before its volume is bound: on %q: %s", node, why)
		}
		obj, _ := c.all.Get(t.Context(), schema.PersistentVolumeClaims.Key("default", "c"))
		if got := obj.GetAnnotations()[volumes.SelectedNode]; got != "n2" {
			t.Errorf("selected node %q", got)
		}
		c.bindClaim("c", "v1")
		if node, why := c.placeOf("p"); node != "n2" {
			t.Errorf("its volume is on n2, it is on %q: %s", node, why)
		}
		c.create(claimOf("now", ""))
		c.create(claiming("q", "now"))
		if node, why := c.placeOf("q"); node != "" || why != "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims." {
			t.Errorf("unbound: on %q: %s", node, why)
		}
		if _, err := c.all.Delete(t.Context(), registry.Deletion{Key: schema.Nodes.Key("", "n2")}); err != nil {
			t.Fatal(err)
		}
		c.create(claiming("r", "c"))
		if node, why := c.placeOf("r"); node != "" || why != "0/1 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity." {
			t.Errorf("the node of its volume is gone: on %q: %s", node, why)
		}
	})
}

// TestEphemeralClaimsOfPods: a pod with an ephemeral volume waits for the claim
// that is made for it, and takes no other of the name.
func TestEphemeralClaimsOfPods(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.node("n1", "8")
		pod := claiming("p", "")
		pod.Spec.Volumes[0].VolumeSource = corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{}}}
		c.create(pod)
		if node, why := c.placeOf("p"); node != "" || why != `0/1 nodes are available: waiting for ephemeral volume controller to create the persistentvolumeclaim "p-d".` {
			t.Errorf("without a claim: on %q: %s", node, why)
		}
		c.create(localVolume("v1", "n1"))
		c.create(claimOf("p-d", "local"))
		c.bindClaim("p-d", "v1")
		if node, why := c.placeOf("p"); node != "" || why != `0/1 nodes are available: PVC default/p-d was not created for pod default/p (pod is not owner).` {
			t.Errorf("with a claim of somebody else: on %q: %s", node, why)
		}
		made, err := c.all.Get(t.Context(), schema.Pods.Key("default", "p"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.all.Mutate(t.Context(), schema.PersistentVolumeClaims.Key("default", "p-d"), func(o schema.Object) error {
			is := true
			o.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: "p", UID: made.GetUID(), Controller: &is}})
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if node, why := c.placeOf("p"); node != "n1" {
			t.Errorf("with its own claim: on %q: %s", node, why)
		}
	})
}
