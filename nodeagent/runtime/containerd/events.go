package containerd

import (
	"context"
	"fmt"
	"time"

	apievents "github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/typeurl/v2"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// helloTopic is published by ourselves, to know that a subscription is live.
const helloTopic = "/evenkeel/subscribed"

// Events subscribes to exits and out-of-memory kills. When it returns, the
// subscription is live: an exit from now on is not missed.
func (r *Runtime) Events(ctx context.Context) (<-chan rt.Event, error) {
	ctx, cancel := context.WithCancel(r.scope(ctx))
	filter := func(topic string) string { return fmt.Sprintf("namespace==%q,topic==%q", r.cfg.Namespace, topic) }
	envelopes, errs := r.client.EventService().Subscribe(ctx, filter("/tasks/exit"), filter("/tasks/oom"), filter(helloTopic))
	out := make(chan rt.Event, 256)
	live := make(chan struct{})
	r.work.Go(func() {
		defer close(out)
		defer cancel()
		r.forward(ctx, envelopes, errs, out, live)
	})
	if err := r.awaitLive(ctx, live); err != nil {
		cancel()
		return nil, err
	}
	r.work.Go(func() { r.keepSweeping(ctx) })
	return out, nil
}

// awaitLive publishes until the subscription delivers.
func (r *Runtime) awaitLive(ctx context.Context, live <-chan struct{}) error {
	bounded, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for wait := time.Millisecond; ; wait *= 2 {
		if err := r.client.EventService().Publish(bounded, helloTopic, &apievents.NamespaceUpdate{Name: r.cfg.Namespace}); err != nil {
			return wrap("subscribe to containerd's events", err)
		}
		select {
		case <-live:
			return nil
		case <-ctx.Done():
			return unavailable("subscribe to containerd's events", ctx.Err())
		case <-bounded.Done():
			return unavailable("subscribe to containerd's events", bounded.Err())
		case <-time.After(wait):
		}
	}
}

func (r *Runtime) forward(ctx context.Context, in <-chan *events.Envelope, errs <-chan error, out chan<- rt.Event, live chan<- struct{}) {
	said := false
	for {
		select {
		case <-ctx.Done():
			return
		case err := <-errs:
			if err != nil && ctx.Err() == nil {
				r.connected.Store(time.Now().UnixNano())
				r.log.Warn("containerd's events ended", "error", err)
			}
			return
		case envelope := <-in:
			if envelope.Topic == helloTopic {
				if !said {
					said = true
					close(live)
				}
				continue
			}
			event, ok := r.translate(ctx, envelope)
			if !ok {
				continue
			}
			select {
			case out <- event:
			case <-ctx.Done():
				return
			}
		}
	}
}

// translate turns containerd's event into ours, and notes an exit on the way.
// The exit of a command run in a container is none of a container.
func (r *Runtime) translate(ctx context.Context, envelope *events.Envelope) (rt.Event, bool) {
	decoded, err := typeurl.UnmarshalAny(envelope.Event)
	if err != nil {
		r.log.Warn("event not understood", "topic", envelope.Topic, "error", err)
		return rt.Event{}, false
	}
	switch e := decoded.(type) {
	case *apievents.TaskExit:
		if e.ID != e.ContainerID {
			return rt.Event{}, false
		}
		rec, known := r.recall(e.ContainerID)
		if known && !rec.exited {
			r.noteExit(ctx, r.exitOf(rec, e))
		}
		return rt.Event{ContainerID: e.ContainerID, PodUID: rec.status.Pod.UID, Exited: true}, true
	case *apievents.TaskOOM:
		rec, _ := r.recall(e.ContainerID)
		return rt.Event{ContainerID: e.ContainerID, PodUID: rec.status.Pod.UID, OOM: true}, true
	}
	return rt.Event{}, false
}

func (r *Runtime) exitOf(rec record, e *apievents.TaskExit) rt.Status {
	status := rec.status
	status.State, status.ExitCode, status.FinishedAt = rt.Exited, int(e.ExitStatus), e.ExitedAt.AsTime()
	status.OOMKilled = status.ExitCode != 0 && r.cgroups.oomKills(rec.cgroup()) > 0
	return status
}
