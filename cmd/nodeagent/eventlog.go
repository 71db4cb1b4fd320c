package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// eventLog is the store of an agent without a control plane: events go to the
// log, and there is nothing else.
type eventLog struct{ logger *slog.Logger }

var errAlone = fmt.Errorf("no --etcd was given: %w", registry.ErrUnavailable)

// Commit logs the events in a transaction.
func (l eventLog) Commit(_ context.Context, txn registry.Txn) (int64, error) {
	for _, op := range txn.Ops {
		obj, err := schema.DecodeObject(op.Value)
		if event, ok := obj.(*corev1.Event); err == nil && ok {
			level := slog.LevelInfo
			if event.Type == corev1.EventTypeWarning {
				level = slog.LevelWarn
			}
			l.logger.Log(context.Background(), level, event.Message, "reason", event.Reason, "kind", event.InvolvedObject.Kind, "name", event.InvolvedObject.Name)
		}
	}
	return 1, nil
}

// Get and the other methods that read have nothing to tell.
func (eventLog) Get(context.Context, string) (registry.KV, error) { return registry.KV{}, errAlone }

func (eventLog) List(context.Context, string, int64) ([]registry.KV, int64, error) {
	return nil, 0, errAlone
}

func (eventLog) Page(context.Context, registry.Range) ([]registry.KV, int64, int64, error) {
	return nil, 0, 0, errAlone
}

func (eventLog) GetAll(context.Context, []string, int64) ([]registry.KV, error) { return nil, errAlone }

func (eventLog) Watch(ctx context.Context, _ string, _ int64, _ func(registry.Batch) error) error {
	<-ctx.Done()
	return nil
}

func (eventLog) Grant(context.Context, time.Duration) (registry.LeaseID, error) { return 1, nil }

func (eventLog) KeepAlive(context.Context, registry.LeaseID) error { return nil }

func (eventLog) TimeLeft(context.Context, registry.LeaseID) (left, ttl time.Duration, err error) {
	return 0, 0, errAlone
}

func (eventLog) Revoke(context.Context, registry.LeaseID) error { return nil }
