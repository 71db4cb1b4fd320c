package reconciler

import (
	"bytes"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
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
	if declared, err = keepOthers(before, declared); err != nil {
		return nil, err
	}
	if node, ok := live.(*corev1.Node); ok {
		if before, declared, err = shareTaints(before, declared, node); err != nil {
			return nil, err
		}
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

// keepOthers is what is declared, with empty labels and annotations where those
// that were declared before are gone: Kubernetes' merge takes a map that is
// missing for the end of all that is in it, whoever put it there.
func keepOthers(before, declared []byte) ([]byte, error) {
	if bytes.Equal(before, declared) {
		return declared, nil
	}
	var was, is map[string]any
	if err := json.Unmarshal(before, &was); err != nil {
		return nil, fmt.Errorf("read what was declared: %w", err)
	}
	if err := json.Unmarshal(declared, &is); err != nil {
		return nil, fmt.Errorf("read what is declared: %w", err)
	}
	metadata, ok := is["metadata"].(map[string]any)
	if !ok {
		return declared, nil
	}
	changed := false
	for _, name := range []string{"labels", "annotations"} {
		if dig(was, "metadata", name) != nil && metadata[name] == nil {
			metadata[name], changed = map[string]any{}, true
		}
	}
	if !changed {
		return declared, nil
	}
	return json.Marshal(is)
}
