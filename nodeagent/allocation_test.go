package nodeagent

import (
	"log/slog"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/evenkeel/evenkeel/schema"
)

// TestGivenMeanwhile gives a pod something else while what it was given before
// is being brought to its cgroups: that is not through then.
func TestGivenMeanwhile(t *testing.T) {
	dir := t.TempDir()
	k := newAllocations(func(string) string { return dir },
		corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("1Gi")},
		func() []*corev1.Pod { return nil }, func(schema.Object, string, string, string) {}, slog.New(slog.DiscardHandler))
	pod := sized(newPod("a", "main"), "100m", "64Mi")
	uid := string(pod.UID)
	k.take(pod, false)
	first, _ := k.take(sized(pod, "200m", "64Mi"), false)
	second, _ := k.take(sized(pod, "300m", "64Mi"), false)
	k.done(uid, first)
	if !k.state(uid).underway() {
		t.Error("through with the first, and taken for through with the second")
	}
	k.done(uid, second)
	if k.state(uid).underway() {
		t.Error("not through with the second")
	}
}
