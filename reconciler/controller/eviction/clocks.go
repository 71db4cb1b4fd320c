package eviction

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Clocks say since when taints are on a node and pods under them, by the clock
// of this process. What an earlier leader had counted is put before that.
type Clocks struct {
	Taints map[string]time.Time // by key and value of NoExecute taints
	Pods   map[types.UID]time.Time
}

func taintName(t *corev1.Taint) string { return t.Key + "=" + t.Value }

// elapsed is for how long a pod has stood a taint.
func (c Clocks) elapsed(pod *corev1.Pod, taint *corev1.Taint, now time.Time) time.Duration {
	return min(now.Sub(c.Taints[taintName(taint)]), now.Sub(c.Pods[pod.UID]))
}

// follow starts the clocks of what has come, and drops those of what has gone.
func (c Clocks) follow(node *corev1.Node, pods []*corev1.Pod, now time.Time) {
	taints := map[string]bool{}
	for i := range node.Spec.Taints {
		if t := &node.Spec.Taints[i]; t.Effect == corev1.TaintEffectNoExecute {
			taints[taintName(t)] = true
		}
	}
	here := map[types.UID]bool{}
	for _, pod := range pods {
		here[pod.UID] = true
	}
	keep(c.Taints, taints, now)
	keep(c.Pods, here, now)
}

func keep[K comparable](clocks map[K]time.Time, there map[K]bool, now time.Time) {
	for k := range clocks {
		if !there[k] {
			delete(clocks, k)
		}
	}
	for k := range there {
		if _, runs := clocks[k]; !runs {
			clocks[k] = now
		}
	}
}

// Record is what the store keeps of the clocks of a node while pods wait: for
// how many whole seconds they have run. No machine's time of day is in it but
// for the names that taints go by, so that the next leader, on a machine whose
// clock may be wrong, goes on counting where this one ended.
type Record struct {
	Node     types.UID           `json:"node"`
	Revision string              `json:"revision"` // of the node's key
	Taints   []TaintTime         `json:"taints"`
	Pods     map[types.UID]int64 `json:"pods"`
}

// TaintTime is for how long a taint has been on the node. When it was added, as
// the node says it, is part of its name: one that went and came back is
// another.
type TaintTime struct {
	Key     string       `json:"key"`
	Value   string       `json:"value,omitempty"`
	Added   *metav1.Time `json:"added,omitempty"`
	Seconds int64        `json:"seconds"`
}

// record is what is to be kept, for those of the pods that wait.
func (c Clocks) record(node *corev1.Node, waiting map[types.UID]bool, now time.Time) Record {
	r := Record{Node: node.UID, Revision: node.ResourceVersion, Pods: map[types.UID]int64{}}
	for i := range node.Spec.Taints {
		if t := &node.Spec.Taints[i]; t.Effect == corev1.TaintEffectNoExecute {
			r.Taints = append(r.Taints, TaintTime{Key: t.Key, Value: t.Value, Added: t.TimeAdded, Seconds: int64(now.Sub(c.Taints[taintName(t)]) / time.Second)})
		}
	}
	for uid := range waiting {
		r.Pods[uid] = int64(now.Sub(c.Pods[uid]) / time.Second)
	}
	return r
}

// newClocks are those that go on where a record ends. The clock of a taint that
// may be another one of the same name begins anew.
func newClocks(node *corev1.Node, r Record, now time.Time) Clocks {
	c := Clocks{Taints: map[string]time.Time{}, Pods: map[types.UID]time.Time{}}
	if r.Node != node.UID {
		return c
	}
	for i := range node.Spec.Taints {
		t := &node.Spec.Taints[i]
		at := slices.IndexFunc(r.Taints, func(tt TaintTime) bool { return tt.Key == t.Key && tt.Value == t.Value && tt.Added.Equal(t.TimeAdded) })
		if t.Effect == corev1.TaintEffectNoExecute && at >= 0 && (t.TimeAdded != nil || r.Revision == node.ResourceVersion) {
			c.Taints[taintName(t)] = now.Add(-seconds(r.Taints[at].Seconds))
		}
	}
	for uid, n := range r.Pods {
		c.Pods[uid] = now.Add(-seconds(n))
	}
	return c
}

func parseRecord(data []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return Record{}, fmt.Errorf("parse record: %w", err)
	}
	return r, nil
}
