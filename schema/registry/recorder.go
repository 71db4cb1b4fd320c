package registry

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/schema"
)

// eventTTL is how long an event is kept after it last happened, as long as
// Kubernetes keeps it.
const eventTTL = time.Hour

// RecorderConfig says who records.
type RecorderConfig struct {
	Store     Store
	Component string // "scheduler", "nodeagent"
	Host      string // node name, where there is one
	Logger    *slog.Logger
}

// Recorder writes events about objects: what happened, once, with a count.
// Recording never blocks and never fails the caller; with the store away, or
// at more events than it can write, some are lost and the log says so.
type Recorder struct {
	cfg   RecorderConfig
	queue chan *corev1.Event
	seen  map[string]*corev1.Event
	lease eventLease
}

// NewRecorder returns a recorder; Run writes what it is given.
func NewRecorder(cfg RecorderConfig) *Recorder {
	return &Recorder{cfg: cfg, queue: make(chan *corev1.Event, 1000), seen: map[string]*corev1.Event{}}
}

// Event records that something happened to an object. eventType is
// corev1.EventTypeNormal or EventTypeWarning; reason is one CamelCase word.
func (r *Recorder) Event(about schema.Object, eventType, reason, message string) {
	now := metav1.Time{Time: time.Now().UTC().Truncate(time.Second)}
	key := schema.KeyOf(about)
	kind, _ := schema.KindOfResource(key.Resource)
	namespace := key.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	e := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: kind.GVK.GroupVersion().String(), Kind: kind.GVK.Kind,
			Namespace: key.Namespace, Name: key.Name, UID: about.GetUID(), ResourceVersion: about.GetResourceVersion(),
		},
		Type: eventType, Reason: reason, Message: message, Count: 1, FirstTimestamp: now, LastTimestamp: now,
		Source:              corev1.EventSource{Component: r.cfg.Component, Host: r.cfg.Host},
		ReportingController: "evenkeel.io/" + r.cfg.Component, ReportingInstance: r.cfg.Host,
	}
	e.Name = eventName(e)
	select {
	case r.queue <- e:
	default:
		r.cfg.Logger.Warn("event lost", "key", key, "reason", reason, "message", message)
	}
}

// eventName is the same for the same thing happening again.
func eventName(e *corev1.Event) string {
	h := fnv.New64a()
	fmt.Fprint(h, e.InvolvedObject.UID, "\x00", e.Type, "\x00", e.Reason, "\x00", e.Message, "\x00", e.Source.Component, "\x00", e.Source.Host)
	return fmt.Sprintf("%s.%016x", e.InvolvedObject.Name, h.Sum64())
}

// Run writes events until ctx ends. Those that come while it writes are
// written together.
func (r *Recorder) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-r.queue:
			batch := r.drain(e)
			if err := r.write(ctx, batch); err != nil && ctx.Err() == nil {
				r.lose(batch, err)
			}
		}
	}
}

// How many events are written together, and how many are remembered: what is
// forgotten is counted from one again.
const (
	maxEvents = 100
	maxSeen   = 2000
)

// drain takes what waits behind an event; what happened several times
// meanwhile is one event.
func (r *Recorder) drain(first *corev1.Event) []*corev1.Event {
	batch := []*corev1.Event{first}
	byName := map[string]*corev1.Event{first.Namespace + "/" + first.Name: first}
	for len(batch) < maxEvents {
		select {
		case e := <-r.queue:
			name := e.Namespace + "/" + e.Name
			if same := byName[name]; same != nil {
				same.Count++
				same.LastTimestamp = e.LastTimestamp
				continue
			}
			byName[name] = e
			batch = append(batch, e)
		default:
			return batch
		}
	}
	return batch
}

func (r *Recorder) lose(batch []*corev1.Event, err error) {
	for _, e := range batch {
		r.cfg.Logger.Warn("event lost", "key", e.InvolvedObject.Name, "reason", e.Reason, "message", e.Message, "error", err)
	}
}

// write writes events in one transaction, or each half by itself where the
// store does not take so much.
func (r *Recorder) write(ctx context.Context, batch []*corev1.Event) error {
	var txn Txn
	for _, e := range batch {
		r.number(e)
		data, err := schema.Encode(e)
		if err != nil {
			return err
		}
		txn.Ops = append(txn.Ops, Put(schema.KeyOf(e).Path(), data))
	}
	if err := r.lease.on(ctx, r.cfg.Store, txn.Ops); err != nil {
		return err
	}
	_, err := r.cfg.Store.Commit(ctx, txn)
	r.lease.failed(err)
	if half := len(batch) / 2; errors.Is(err, ErrTooLarge) && half > 0 {
		return errors.Join(r.write(ctx, batch[:half]), r.write(ctx, batch[half:]))
	}
	if err != nil {
		return err
	}
	if len(r.seen)+len(batch) > maxSeen {
		clear(r.seen)
	}
	for _, e := range batch {
		r.seen[e.Name] = e
	}
	return nil
}

// number counts an event on from the last one of its name; one that was
// numbered stays as it is.
func (r *Recorder) number(e *corev1.Event) {
	before := r.seen[e.Name]
	switch {
	case e.UID != "":
	case before != nil:
		e.Count += before.Count
		e.FirstTimestamp = before.FirstTimestamp
		e.UID, e.CreationTimestamp = before.UID, before.CreationTimestamp
	default:
		e.UID, e.CreationTimestamp = newUID(), e.FirstTimestamp
	}
}
