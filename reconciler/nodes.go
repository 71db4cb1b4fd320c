package reconciler

import (
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/schema"
)

// Kept reports whether an object stays when its source no longer declares it,
// without what the source had set: a node, which is a machine, and not made or
// ended by a file.
func Kept(key schema.Key) bool { return key.Resource == schema.Nodes.Resource }

// release plans that a source takes back what it had set of an object that
// stays. It is planned even if nothing is left to take back, so that the plan is
// the same whatever it is made against.
func (p *Plan) release(in Input, c Change, live schema.Object, owned Owned) error {
	nothing, err := onlyIdentity(owned.Entry.Declared)
	if err != nil {
		return err
	}
	merged, err := merge(owned.Entry.Declared, nothing, live, in.Validator.Default)
	if err != nil {
		return err
	}
	c.Action, c.Release = Update, true
	c.Object = live.DeepCopyObject().(schema.Object)
	if merged != nil {
		c.Object = merged
		if c.Fields, err = fieldChanges(live, merged, owned.Entry.Declared, nothing); err != nil {
			return err
		}
		for i := range c.Fields {
			c.Fields[i].Place = c.Place
		}
	}
	annotations := c.Object.GetAnnotations()
	for _, name := range stamps {
		delete(annotations, name)
	}
	for _, e := range in.Validator.ValidateUpdate(c.Object, live) {
		p.Problems = append(p.Problems, Problem{Key: c.Key, Place: c.Place, Message: e.Error()})
		return nil
	}
	p.Changes = append(p.Changes, c)
	return nil
}

// onlyIdentity is what a manifest says, as canonical JSON, but for all that is
// not the name of its object.
func onlyIdentity(declared []byte) ([]byte, error) {
	t, err := tree(declared)
	if err != nil {
		return nil, err
	}
	metadata := map[string]any{}
	for _, name := range []string{"name", "namespace"} {
		if value := dig(t, "metadata", name); value != nil {
			metadata[name] = value
		}
	}
	return json.Marshal(map[string]any{"apiVersion": t["apiVersion"], "kind": t["kind"], "metadata": metadata})
}

// shareTaints makes the taints that a source declares of a node a part of those
// that it has: Kubernetes' merge knows lists of taints only as a whole, and here
// the control plane and people have their own in them. What is returned stands
// for what was, and is, declared.
func shareTaints(before, declared []byte, live *corev1.Node) (was, is []byte, err error) {
	var old, now corev1.Node
	if err := json.Unmarshal(before, &old); err != nil {
		return nil, nil, fmt.Errorf("read what was declared: %w", err)
	}
	if err := json.Unmarshal(declared, &now); err != nil {
		return nil, nil, fmt.Errorf("read what is declared: %w", err)
	}
	if len(old.Spec.Taints) == 0 && len(now.Spec.Taints) == 0 {
		return before, declared, nil
	}
	merged := mergeTaints(old.Spec.Taints, now.Spec.Taints, live.Spec.Taints)
	if was, err = withTaints(before, live.Spec.Taints); err == nil {
		is, err = withTaints(declared, merged)
	}
	return was, is, err
}

// mergeTaints returns a node's taints with those that a source declares, and
// without those that it no longer does. Pure.
func mergeTaints(before, declared, live []corev1.Taint) []corev1.Taint {
	find := func(in []corev1.Taint, t corev1.Taint) int {
		return slices.IndexFunc(in, func(o corev1.Taint) bool { return schema.SameTaint(&o, &t) })
	}
	var out []corev1.Taint
	for _, t := range live {
		i := find(declared, t)
		switch {
		case i >= 0 && declared[i].Value != t.Value:
			out = append(out, declared[i])
		case i >= 0 || find(before, t) < 0:
			out = append(out, t)
		}
	}
	for _, t := range declared {
		if find(live, t) < 0 {
			out = append(out, t)
		}
	}
	return out
}

// withTaints is what a manifest of a node says, with other taints.
func withTaints(declared []byte, taints []corev1.Taint) ([]byte, error) {
	var t map[string]any
	if err := json.Unmarshal(declared, &t); err != nil {
		return nil, fmt.Errorf("read what is declared: %w", err)
	}
	spec, _ := t["spec"].(map[string]any)
	if spec == nil {
		spec = map[string]any{}
		t["spec"] = spec
	}
	if delete(spec, "taints"); len(taints) > 0 {
		spec["taints"] = taints
	}
	if len(spec) == 0 {
		delete(t, "spec")
	}
	return json.Marshal(t)
}
