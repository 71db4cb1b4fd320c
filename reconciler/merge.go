package reconciler

import (
	"bytes"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/evenkeel/evenkeel/schema"
)

// merge returns the live object changed as a source wants it: fields that are
// declared are set, fields that were declared before and are no more are
// removed, all others stay with whoever set them (Kubernetes: "How apply
// calculates differences and merges changes"). The result is nil when the live
// object is as declared. before may be nil.
func merge(before, declared []byte, live schema.Object, defaults func(schema.Object)) (schema.Object, error) {
	current, err := schema.JSON(live)
	if err != nil {
		return nil, err
	}
	meta, err := strategicpatch.NewPatchMetaFromStruct(live)
	if err != nil {
		return nil, err
	}
	if before == nil {
		before = declared
	}
	patch, err := strategicpatch.CreateThreeWayMergePatch(before, declared, current, meta, true)
	if err != nil {
		return nil, fmt.Errorf("merge: %w", err)
	}
	if bytes.Equal(patch, []byte("{}")) {
		return nil, nil
	}
	merged, err := strategicpatch.StrategicMergePatchUsingLookupPatchMeta(current, patch, meta)
	if err != nil {
		return nil, fmt.Errorf("merge: %w", err)
	}
	kind, err := schema.KindOf(live)
	if err != nil {
		return nil, err
	}
	out := kind.New()
	if err := json.Unmarshal(merged, out); err != nil {
		return nil, fmt.Errorf("merge: %w", err)
	}
	dropOfType(out, live)
	defaults(out)
	if equality.Semantic.DeepEqual(out, live) {
		return nil, nil
	}
	return out, nil
}
