// Package failure says in the API's words what went wrong in a store: the
// status and the reason that a Kubernetes client acts upon.
//
// Only schema/apiserver and its packages use it.
package failure

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kschema "k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// Of returns an error that is an API status: the one that err wraps, if any, and
// an internal error where nothing better is known. nil stays nil.
func Of(err error, key schema.Key) error {
	var status apierrors.APIStatus
	switch {
	case err == nil:
		return nil
	case errors.As(err, &status):
		return &apierrors.StatusError{ErrStatus: status.Status()}
	case errors.Is(err, registry.ErrCompacted):
		return apierrors.NewResourceExpired("The provided resourceVersion is too old: what came after it has been compacted; list again.")
	case errors.Is(err, registry.ErrFuture):
		return FutureRevision(0, 0)
	case errors.Is(err, registry.ErrTooLarge):
		return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("%s: %v", key, err))
	case errors.Is(err, registry.ErrConflict):
		return apierrors.NewConflict(resource(key), key.Name, err)
	case errors.Is(err, registry.ErrNotFound):
		return apierrors.NewNotFound(resource(key), key.Name)
	case errors.Is(err, registry.ErrUnavailable), errors.Is(err, registry.ErrNoSpace):
		return apierrors.NewServiceUnavailable(fmt.Sprintf("%s: %v", key, err))
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return apierrors.NewTimeoutError(fmt.Sprintf("%s: %v", key, err), 1)
	}
	return apierrors.NewInternalError(fmt.Errorf("%s: %w", key, err))
}

// FutureRevision is the error of a read that asks for a revision which is
// still to come, with the cause that clients look for. 0 is a revision that is
// not known.
func FutureRevision(asked, current int64) error {
	err := apierrors.NewTimeoutError(fmt.Sprintf("Too large resource version: %d, current: %d", asked, current), 1)
	err.ErrStatus.Details.Causes = []metav1.StatusCause{{
		Type: metav1.CauseTypeResourceVersionTooLarge, Message: "Too large resource version",
	}}
	return err
}

// Status returns the status that an error means.
func Status(err error) *metav1.Status {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		errors.As(Of(err, schema.Key{}), &status)
	}
	s := status.Status()
	return &s
}

func resource(key schema.Key) kschema.GroupResource {
	gr := kschema.GroupResource{Resource: key.Resource}
	if kind, ok := schema.KindOfResource(key.Resource); ok {
		gr.Group = kind.GVK.Group
	}
	return gr
}
