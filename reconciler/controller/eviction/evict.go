package eviction

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evenkeel/evenkeel/reconciler/controller"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// reason is that of the events about evictions, as in Kubernetes.
const reason = "TaintManagerEviction"

// evict ends pods, on condition that their node is tainted as it was read: at
// once where the node is gone, and still is, or else with their grace.
func (e *evictor) evict(ctx context.Context, node *corev1.Node, list []Eviction) error {
	if len(list) == 0 {
		return nil
	}
	gone := []registry.Guard{*controller.Unchanged(node), {Key: schema.NodeLeasePrefix + node.Name, Mod: registry.Absent}}
	var marks, ends, removals []registry.Write
	for _, ev := range list {
		// Of this very version: its tolerations may be others by now.
		d := &registry.Deletion{Key: schema.KeyOf(ev.Pod), UID: ev.Pod.UID, ResourceVersion: ev.Pod.ResourceVersion}
		if ev.Gone {
			d.GraceSeconds = new(int64)
			removals = append(removals, registry.Write{Delete: d})
			continue
		}
		marks = append(marks, registry.Write{UpdateStatus: disrupted(ev.Pod)})
		ends = append(ends, registry.Write{Delete: &registry.Deletion{Key: d.Key, UID: d.UID}})
	}
	e.Logger.Warn("evicting pods", "node", node.Name, "pods", len(list))
	if err := e.Writer.CommitAll(ctx, removals, gone...); err != nil {
		return fmt.Errorf("remove the pods of node %s: %w", node.Name, err)
	}
	if err := e.Writer.CommitAll(ctx, marks, gone[:1]...); err != nil {
		return fmt.Errorf("mark the pods of node %s: %w", node.Name, err)
	}
	if err := e.Writer.CommitAll(ctx, ends, gone[:1]...); err != nil {
		return fmt.Errorf("end the pods of node %s: %w", node.Name, err)
	}
	for _, ev := range list {
		e.Recorder.Event(ev.Pod, corev1.EventTypeNormal, reason, fmt.Sprintf("Marking for deletion Pod %s/%s: node %s has the taint {%s: %s}",
			ev.Pod.Namespace, ev.Pod.Name, node.Name, ev.Taint.Key, ev.Taint.Value))
	}
	return nil
}

// disrupted is the pod with the condition that Kubernetes' controller gives it
// before it deletes it.
func disrupted(pod *corev1.Pod) *corev1.Pod {
	out := pod.DeepCopy()
	condition := corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now(),
		Reason: "DeletionByTaintManager", Message: "Taint manager: deleting due to NoExecute taint",
	}
	for i, c := range out.Status.Conditions {
		if c.Type != condition.Type {
			continue
		}
		if c.Status == condition.Status {
			condition.LastTransitionTime = c.LastTransitionTime
		}
		out.Status.Conditions[i] = condition
		return out
	}
	out.Status.Conditions = append(out.Status.Conditions, condition)
	return out
}

// cancel tells of the pods that waited by what they say themselves, and no
// longer do.
func (e *evictor) cancel(node string, pods []*corev1.Pod, before map[types.UID]bool, now Verdict) {
	going := map[types.UID]bool{}
	for _, ev := range now.Evict {
		going[ev.Pod.UID] = true
	}
	for _, pod := range pods {
		_, waits := now.Waiting[pod.UID]
		if !before[pod.UID] || waits || going[pod.UID] || pod.DeletionTimestamp != nil || stays(pod) {
			continue
		}
		e.Logger.Info("eviction cancelled", "node", node, "key", schema.KeyOf(pod))
		e.Recorder.Event(pod, corev1.EventTypeNormal, reason, fmt.Sprintf("Cancelling deletion of Pod %s/%s", pod.Namespace, pod.Name))
	}
}

// record notes from time to time for how long the pods of a node have waited,
// and says when it wants to be called again; 0 for never.
func (e *evictor) record(ctx context.Context, node *corev1.Node, t *tainted, now time.Time) (time.Duration, error) {
	if len(t.waiting) == 0 {
		return 0, e.dropRecord(ctx, node.Name)
	}
	if left := recordEvery - now.Sub(t.recorded); left > 0 {
		return left, nil
	}
	data, err := json.Marshal(t.clocks.record(node, t.waiting, now))
	if err != nil {
		return 0, fmt.Errorf("record the waits on node %s: %w", node.Name, err)
	}
	op := registry.Put(schema.EvictionsPrefix+node.Name, data)
	exists := &registry.Guard{Key: schema.KeyOf(node).Path(), Mod: registry.Present}
	if _, err := e.Writer.Commit(ctx, registry.Write{Raw: &op, Guard: exists}); err != nil {
		return 0, fmt.Errorf("record the waits on node %s: %w", node.Name, err)
	}
	t.recorded = now
	return recordEvery, nil
}

func (e *evictor) dropRecord(ctx context.Context, node string) error {
	kv, ok := e.Writer.Mirror.RawKey(schema.EvictionsPrefix + node)
	if !ok {
		return nil
	}
	op := registry.Delete(kv.Key)
	if _, err := e.Writer.Commit(ctx, registry.Write{Raw: &op, Guard: &registry.Guard{Key: kv.Key, Mod: kv.Mod}}); err != nil {
		return fmt.Errorf("drop the record of node %s: %w", node, err)
	}
	return nil
}
