package storage

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/support"
)

// supported refuses what Kubernetes takes and nothing here acts on, as in
// manifests: it is never ignored. What an object has already may stay. Nodes,
// of which the table says what people may declare, are not judged.
func (s *objects) supported(old, updated schema.Object) error {
	if support.For(s.kind.Resource) == nil || s.kind == schema.Nodes {
		return nil
	}
	refusals, err := s.refusals(updated)
	if err != nil || len(refusals) == 0 {
		return err
	}
	var before []support.Refusal
	if old != nil {
		if before, err = s.refusals(old); err != nil {
			return err
		}
	}
	var errs field.ErrorList
	for _, r := range refusals {
		there := slices.ContainsFunc(before, func(b support.Refusal) bool { return shape(b.Path) == shape(r.Path) && b.Value == r.Value })
		if !there {
			errs = append(errs, field.Forbidden(field.NewPath(r.Path), refusal(r)))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(s.kind.GVK.GroupKind(), updated.GetName(), errs)
}

// shape is a path wherever in their lists its items stand.
func shape(path string) string { return index.ReplaceAllString(path, "[]") }

var index = regexp.MustCompile(`\[[0-9]+\]`)

// refusals judges all but what a server sets, and ephemeral containers, which
// Kubernetes' validation judges.
func (s *objects) refusals(obj schema.Object) ([]support.Refusal, error) {
	document, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		return nil, fmt.Errorf("read %s %s: %w", s.kind.Resource, obj.GetName(), err)
	}
	for _, name := range []string{"apiVersion", "kind", "metadata", "status"} {
		delete(document, name)
	}
	return slices.DeleteFunc(support.For(s.kind.Resource).Judge("", document), func(r support.Refusal) bool {
		return support.Instead(strings.TrimPrefix(r.Path, "spec.")) != ""
	}), nil
}

func refusal(r support.Refusal) string {
	text := "valid Kubernetes, not supported here yet"
	if r.Value != "" {
		text += ": " + r.Value
	}
	if len(r.Values) > 0 {
		text += "; supported: " + strings.Join(r.Values, ", ")
	}
	return text
}
