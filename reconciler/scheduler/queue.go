package scheduler

import (
	"container/heap"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/schema"
)

// queue holds the pods that are to be scheduled, oldest first. A pod that is
// taken out leaves its place in the heap, which pop passes over.
type queue struct {
	pods  map[schema.Key]*corev1.Pod
	order places
}

type place struct {
	created time.Time
	key     schema.Key
}

func newQueue() *queue { return &queue{pods: map[schema.Key]*corev1.Pod{}} }

// set adds a pod, or what is newly known of one that is there.
func (q *queue) set(key schema.Key, pod *corev1.Pod) {
	if q.pods[key] == nil {
		heap.Push(&q.order, place{pod.CreationTimestamp.Time, key})
	}
	q.pods[key] = pod
}

func (q *queue) remove(key schema.Key) { delete(q.pods, key) }

// pop takes up to n pods out.
func (q *queue) pop(n int) []*corev1.Pod {
	var out []*corev1.Pod
	for len(out) < n && len(q.order) > 0 {
		p := heap.Pop(&q.order).(place)
		if pod := q.pods[p.key]; pod != nil {
			out = append(out, pod)
			delete(q.pods, p.key)
		}
	}
	return out
}

// places is a heap by age, then key.
type places []place

func (p places) Len() int      { return len(p) }
func (p places) Swap(i, j int) { p[i], p[j] = p[j], p[i] }
func (p *places) Push(x any)   { *p = append(*p, x.(place)) }

func (p places) Less(i, j int) bool {
	if c := p[i].created.Compare(p[j].created); c != 0 {
		return c < 0
	}
	return p[i].key.Compare(p[j].key) < 0
}

func (p *places) Pop() any {
	old := *p
	last := old[len(old)-1]
	*p = old[:len(old)-1]
	return last
}
