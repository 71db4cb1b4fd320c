package manager_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// TestEphemeralVolume: the claim of a pod's ephemeral volume is made, waits for
// the pod's node, gets the volume that is there, is shown to the node, and goes
// with the pod.
func TestEphemeralVolume(t *testing.T) {
	c := newCluster(t)
	c.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}})
	waits := storagev1.VolumeBindingWaitForFirstConsumer
	local := "local"
	c.create(&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: local}, Provisioner: "kubernetes.io/no-provisioner", VolumeBindingMode: &waits})
	size := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	modes := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	disk := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "disk"}}
	disk.Spec = corev1.PersistentVolumeSpec{
		Capacity: size, AccessModes: modes, StorageClassName: local,
		PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: "/disk"}},
		NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"n2"}}},
		}}}},
	}
	c.create(disk)
	c.agent("n1")
	c.agent("n2")
	c.lead(c.ctx, "a")
	c.until("both nodes", c.nodesReady(2))

	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "job"}}
	pod.Spec.Containers = []corev1.Container{{Name: "main", Image: "job:1"}}
	pod.Spec.Volumes = []corev1.Volume{{Name: "work", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{
		VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: modes, StorageClassName: &local, Resources: corev1.VolumeResourceRequirements{Requests: size},
		}},
	}}}}
	c.create(pod)
	c.until("the pod runs where its volume is", func() (bool, string) {
		pod, _ := registry.GetOf[*corev1.Pod](c.mirror, schema.Pods, "default", "job")
		claim, _ := registry.GetOf[*corev1.PersistentVolumeClaim](c.mirror, schema.PersistentVolumeClaims, "default", "job-work")
		if pod == nil || claim == nil {
			return false, fmt.Sprint(pod, claim)
		}
		state := fmt.Sprintf("pod %s on %q, claim %s of %q", pod.Status.Phase, pod.Spec.NodeName, claim.Status.Phase, claim.Spec.VolumeName)
		return pod.Status.Phase == corev1.PodRunning && pod.Spec.NodeName == "n2" && claim.Status.Phase == corev1.ClaimBound && claim.Spec.VolumeName == "disk", state
	})
	c.untilShown("n2", schema.PersistentVolumes.Key("", "disk"))
	if _, err := c.all.Delete(c.ctx, registry.Deletion{Key: schema.Pods.Key("default", "job")}); err != nil {
		t.Fatal(err)
	}
	c.until("the claim went with the pod", func() (bool, string) {
		claims := c.mirror.List(schema.PersistentVolumeClaims, "default")
		return len(claims) == 0 && len(c.mirror.List(schema.Pods, "default")) == 0, fmt.Sprint(claims)
	})
}

// untilShown waits until a node is shown an object.
func (c *cluster) untilShown(node string, key schema.Key) {
	c.t.Helper()
	changes := c.mirror.SubscribeRaw(schema.BindingPrefix(node))
	defer changes.Close()
	limit, cancel := context.WithTimeout(c.ctx, 30*time.Second)
	defer cancel()
	for {
		_, err := c.store.Get(limit, schema.BindingPath(node, key))
		if err == nil {
			return
		}
		if changes.Next(limit) == nil {
			c.t.Fatalf("%s is not shown %s: %v", node, key, err)
		}
	}
}
