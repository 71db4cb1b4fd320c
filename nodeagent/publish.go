package nodeagent

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// report is a pod's status as last said.
type report struct {
	pod     types.NamespacedName
	uid     types.UID
	as      types.UID // by which the store knows the pod; set when it is written
	status  corev1.PodStatus
	stopped bool
}

// publisher writes the pods' statuses, each pod's newest, and keeps them until
// the store takes them.
type publisher struct {
	store  registry.Store
	node   string
	known  func(types.UID) (types.UID, bool) // by which UID the store knows a pod that is bound here
	logger *slog.Logger

	mu     sync.Mutex
	latest map[types.UID]corev1.PodStatus // of all pods that are here
	dirty  map[types.UID]report
	ready  chan struct{}
}

func newPublisher(store registry.Store, node string, known func(types.UID) (types.UID, bool), logger *slog.Logger) *publisher {
	return &publisher{store: store, node: node, known: known, logger: logger, dirty: map[types.UID]report{}, latest: map[types.UID]corev1.PodStatus{}, ready: make(chan struct{}, 1)}
}

func (p *publisher) publish(r report) {
	p.mu.Lock()
	p.dirty[r.uid] = r
	p.latest[r.uid] = r.status
	if r.stopped {
		delete(p.latest, r.uid)
	}
	p.mu.Unlock()
	poke(p.ready)
}

// last is what was last said of a pod that is here.
func (p *publisher) last(uid types.UID) (corev1.PodStatus, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	status, known := p.latest[uid]
	return status, known
}

// take returns what is to be written. A pod that is no longer bound here has
// no say: another of its name may have its place.
func (p *publisher) take() []report {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]report, 0, len(p.dirty))
	for uid, r := range p.dirty {
		if known, ok := p.known(uid); ok {
			r.as = known
			out = append(out, r)
		}
	}
	clear(p.dirty)
	return out
}

// giveBack keeps reports that were not written, unless there are newer ones.
func (p *publisher) giveBack(reports []report) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range reports {
		if _, newer := p.dirty[r.uid]; !newer {
			p.dirty[r.uid] = r
		}
	}
}

// storeRetry is how long the store is left alone after an error.
const storeRetry = time.Second

func (p *publisher) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.ready:
		}
		var left []report
		for chunk := range slices.Chunk(p.take(), registry.MaxOps) {
			if err := p.write(ctx, chunk); err != nil && ctx.Err() == nil {
				p.logger.Warn("pod statuses not written, will be tried again", "pods", len(chunk), "error", err)
				left = append(left, chunk...)
			}
		}
		if len(left) > 0 {
			p.giveBack(left)
			wait(ctx, storeRetry)
			poke(p.ready)
		}
	}
}

// write puts reports in one transaction. Where that is refused because one of
// the pods is no longer bound here, or because it is too large, they go one by
// one, and the one that is refused is dropped.
func (p *publisher) write(ctx context.Context, reports []report) error {
	var txn registry.Txn
	for _, r := range reports {
		op, guard, err := p.op(r)
		if err != nil {
			return err
		}
		txn.Ops = append(txn.Ops, op)
		txn.Guards = append(txn.Guards, guard)
	}
	_, err := p.store.Commit(ctx, txn)
	switch {
	case !errors.Is(err, registry.ErrConflict) && !errors.Is(err, registry.ErrTooLarge):
		return err
	case len(reports) > 1:
		for i := range reports {
			if err := p.write(ctx, reports[i:i+1]); err != nil {
				return err
			}
		}
	case errors.Is(err, registry.ErrTooLarge):
		p.logger.Error("pod status dropped", "pod", reports[0].pod, "error", err)
	}
	return nil
}

func (p *publisher) op(r report) (registry.Op, registry.Guard, error) {
	obj := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: r.pod.Namespace, Name: r.pod.Name, UID: r.as}, Status: r.status}
	if r.stopped {
		obj.Annotations = map[string]string{schema.StoppedAnnotation: string(r.as)}
	}
	data, err := schema.Encode(obj)
	if err != nil {
		return registry.Op{}, registry.Guard{}, err
	}
	key := schema.Pods.Key(r.pod.Namespace, r.pod.Name)
	return registry.Put(schema.PodStatusPath(p.node, r.pod.Namespace, r.pod.Name), data),
		registry.Guard{Key: schema.BindingPath(p.node, key), Mod: registry.Present}, nil
}

// readReports returns what this node said of its pods before, by UID.
func readReports(ctx context.Context, store registry.Store, node string) (map[types.UID]corev1.PodStatus, error) {
	kvs, _, err := store.List(ctx, schema.PodStatusPrefix+node+"/", 0)
	if err != nil {
		return nil, err
	}
	out := map[types.UID]corev1.PodStatus{}
	for _, kv := range kvs {
		obj, err := schema.DecodeObject(kv.Value)
		if err != nil {
			continue // it is written anew
		}
		if pod, ok := obj.(*corev1.Pod); ok {
			out[pod.UID] = pod.Status
		}
	}
	return out, nil
}
