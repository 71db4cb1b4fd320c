package nodeagent

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// StoppedAnnotation is set, to the pod's UID, on the status of a pod of which
// nothing is left on its node: whoever reads it may remove the pod.
const StoppedAnnotation = schema.RegistryDirectory + "stopped"

// report is a pod's status as last said.
type report struct {
	pod     types.NamespacedName
	uid     types.UID
	status  corev1.PodStatus
	stopped bool
}

// publisher writes the pods' statuses, each pod's newest, and keeps them until
// the store takes them.
type publisher struct {
	store registry.Store
	node  string
	log   func(msg string, args ...any)

	mu    sync.Mutex
	dirty map[types.UID]report
	ready chan struct{}
}

func newPublisher(store registry.Store, node string, log func(string, ...any)) *publisher {
	return &publisher{store: store, node: node, log: log, dirty: map[types.UID]report{}, ready: make(chan struct{}, 1)}
}

func (p *publisher) publish(r report) {
	p.mu.Lock()
	p.dirty[r.uid] = r
	p.mu.Unlock()
	p.wake()
}

func (p *publisher) wake() {
	select {
	case p.ready <- struct{}{}:
	default:
	}
}

func (p *publisher) take() []report {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := slices.Collect(maps.Values(p.dirty))
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

func (p *publisher) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.ready:
		}
		for chunk := range slices.Chunk(p.take(), registry.MaxOps) {
			if err := p.write(ctx, chunk); err != nil && ctx.Err() == nil {
				p.log("pod statuses not written, will be tried again", "pods", len(chunk), "error", err)
				p.giveBack(chunk)
				wait(ctx, time.Second)
				p.wake()
			}
		}
	}
}

// write puts reports in one transaction. The status of a pod that is no longer
// bound here is not written: the others then go one by one.
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
	if !errors.Is(err, registry.ErrConflict) {
		return err
	}
	if len(reports) == 1 {
		return nil
	}
	for i := range reports {
		if err := p.write(ctx, reports[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

func (p *publisher) op(r report) (registry.Op, registry.Guard, error) {
	obj := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: r.pod.Namespace, Name: r.pod.Name, UID: r.uid}, Status: r.status}
	if r.stopped {
		obj.Annotations = map[string]string{StoppedAnnotation: string(r.uid)}
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
			return nil, err
		}
		if pod, ok := obj.(*corev1.Pod); ok {
			out[pod.UID] = pod.Status
		}
	}
	return out, nil
}
