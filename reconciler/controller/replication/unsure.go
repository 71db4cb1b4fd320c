package replication

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/evenkeel/evenkeel/reconciler/controller"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// unknown reports whether an error leaves open if its write has happened, or
// may yet happen.
func unknown(err error) bool {
	var status apierrors.APIStatus
	switch {
	case err == nil, errors.As(err, &status), errors.Is(err, registry.ErrConflict), errors.Is(err, registry.ErrFenced),
		errors.Is(err, registry.ErrTooLarge), errors.Is(err, registry.ErrNoSpace):
		return false
	}
	return true
}

// refused reports whether an error says that what was asked is not to be had,
// now or by trying again soon.
func refused(err error) bool {
	return !unknown(err) && !controller.IsStale(err) && !errors.Is(err, registry.ErrFenced)
}

func (r *replicator) mark(key schema.Key, unsure bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if unsure {
		r.unsure[key] = true
	} else {
		delete(r.unsure, key)
	}
}

func (r *replicator) isUnsure(key schema.Key) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.unsure[key]
}

// makeSure ends the doubt that a write without an answer leaves. Every
// creation is guarded by the revision of its controller, so writing the
// controller once more, unchanged, shuts out what has not happened by then;
// and a mirror that has seen this has seen what did.
func (r *replicator) makeSure(ctx context.Context, key schema.Key, rc *corev1.ReplicationController) error {
	if !r.isUnsure(key) {
		return nil
	}
	same := *rc
	same.ResourceVersion = ""
	data, err := schema.Encode(&same)
	if err != nil {
		return err
	}
	op := registry.Put(key.Path(), data)
	if _, err := r.Writer.Commit(ctx, registry.Write{Raw: &op, Guard: controller.Unchanged(rc)}); err != nil {
		return fmt.Errorf("settle an unanswered write of %s: %w", key, err)
	}
	r.mark(key, false)
	return nil
}
