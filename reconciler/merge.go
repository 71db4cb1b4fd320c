package reconciler

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

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
	defaults(out)
	if equality.Semantic.DeepEqual(out, live) {
		return nil, nil
	}
	return out, nil
}

// fieldChanges lists what differs between two objects of a kind, but for what
// the system writes. Values under a secret's data are never shown.
func fieldChanges(old, updated schema.Object) ([]FieldChange, error) {
	a, err := tree(old)
	if err != nil {
		return nil, err
	}
	b, err := tree(updated)
	if err != nil {
		return nil, err
	}
	var out []FieldChange
	compare("", a, b, &out)
	if schema.KeyOf(old).Resource == schema.Secrets.Resource {
		hideSecrets(out)
	}
	return out, nil
}

func tree(obj schema.Object) (any, error) {
	data, err := schema.JSON(obj)
	if err != nil {
		return nil, err
	}
	var out map[string]any
	if err := json.Unmarshal(data, &out); err != nil {
		return nil, err
	}
	delete(out, "status")
	if meta, ok := out["metadata"].(map[string]any); ok {
		for _, name := range []string{"resourceVersion", "uid", "generation", "creationTimestamp", "managedFields"} {
			delete(meta, name)
		}
	}
	return out, nil
}

func compare(path string, a, b any, out *[]FieldChange) {
	am, aIsMap := a.(map[string]any)
	bm, bIsMap := b.(map[string]any)
	al, aIsList := a.([]any)
	bl, bIsList := b.([]any)
	switch {
	case aIsMap && bIsMap:
		names := maps.Clone(am)
		maps.Copy(names, bm)
		for _, name := range slices.Sorted(maps.Keys(names)) {
			compare(join(path, name), am[name], bm[name], out)
		}
	case aIsList && bIsList && len(al) == len(bl):
		for i := range al {
			compare(fmt.Sprintf("%s[%d]", path, i), al[i], bl[i], out)
		}
	case !equality.Semantic.DeepEqual(a, b):
		*out = append(*out, FieldChange{Path: path, Old: text(a), New: text(b)})
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func text(v any) string {
	if v == nil {
		return ""
	}
	data, _ := json.Marshal(v)
	return string(data)
}

// hideSecrets keeps a person from reading a secret in a plan.
func hideSecrets(changes []FieldChange) {
	for i := range changes {
		c := &changes[i]
		if len(c.Path) < 4 || c.Path[:4] != "data" {
			continue
		}
		if c.Old != "" {
			c.Old = "(secret)"
		}
		if c.New != "" {
			c.New = "(secret, changed)"
		}
	}
}
