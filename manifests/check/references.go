package check

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema"
)

// reference is a pod's need of a config map or secret, or of a key in one.
type reference struct {
	kind     *schema.Kind
	name     string
	key      string // "" where all are taken
	optional *bool

	at      place
	named   string // field of the name, below at
	keyed   string // field of the key, below at
	keyItem int    // of the list items, where keyed is "items"
}

// place is where a pod refers to something. Its path is made only where it is
// needed, for most references are right.
type place struct {
	list  string // volumes, containers, initContainers
	index int
	below string // env, envFrom, or "" for a volume
	item  int
	field string // configMap, secretKeyRef, …
}

func (p place) path() string {
	switch p.below {
	case "":
		return fmt.Sprintf("%s[%d].%s", p.list, p.index, p.field)
	case "env":
		return fmt.Sprintf("%s[%d].env[%d].valueFrom.%s", p.list, p.index, p.item, p.field)
	}
	return fmt.Sprintf("%s[%d].%s[%d].%s", p.list, p.index, p.below, p.item, p.field)
}

func (r reference) nameField() string { return r.at.path() + "." + r.named }

func (r reference) keyField() string {
	if r.keyed == "items" {
		return fmt.Sprintf("%s.items[%d].key", r.at.path(), r.keyItem)
	}
	return r.at.path() + "." + r.keyed
}

// lacksReferent reports whether a pod waits for something in vain.
func (x *index) lacksReferent(w *object) bool {
	lacks := false
	eachReference(w.spec, func(r reference) {
		lacks = lacks || !r.isOptional() && !x.holds(w, r)
	})
	return lacks
}

// isOptional reports whether a pod starts without what is referred to.
func (r *reference) isOptional() bool { return r.name == "" || r.optional != nil && *r.optional }

// holds reports whether what a pod refers to is there.
func (x *index) holds(w *object, r reference) bool {
	o := x.objects[r.kind.Key(w.key.Namespace, r.name)]
	return o != nil && (r.key == "" || hasKey(o.value(), r.key))
}

// checkReferences finds config maps, secrets and keys that a pod waits for in
// vain. What is missing is said once for each object that needs it.
func (p *pass) checkReferences(w *object) {
	var said map[string]bool
	eachReference(w.spec, func(r reference) {
		if r.isOptional() || p.index.holds(w, r) {
			return
		}
		f := p.missing(w, r)
		if said[f.message] {
			return
		}
		if said == nil {
			said = map[string]bool{}
		}
		said[f.message] = true
		if f.suggestion == "" {
			f.suggestion = p.suggestReferent(w, r, f)
		}
		p.report(w.item, f)
	})
}

// missing says that what is referred to is not there.
func (c *Checker) missing(w *object, r reference) finding {
	o := c.index.objects[r.kind.Key(w.key.Namespace, r.name)]
	f := finding{code: manifests.CodeNoConfigMap}
	word := "config map"
	if r.kind == schema.Secrets {
		f.code, word = manifests.CodeNoSecret, "secret"
	}
	switch {
	case o == nil:
		f.field = w.path + "." + r.nameField()
		f.message = fmt.Sprintf("the %s %q is %s; the pod waits for it", word, r.name, c.notThere())
	case o.item == nil:
		f.field = w.path + "." + r.keyField()
		f.message = fmt.Sprintf("the %s %q in the cluster has no key %q; the pod waits for it", word, r.name, r.key)
	default:
		f.code, f.field = manifests.CodeNoKey, w.path+"."+r.keyField()
		f.message = fmt.Sprintf("the %s %q has no key %q", word, r.name, r.key)
	}
	return f
}

// suggestReferent guesses which name or key was meant.
func (p *pass) suggestReferent(w *object, r reference, f finding) string {
	o := p.index.objects[r.kind.Key(w.key.Namespace, r.name)]
	if o == nil {
		return p.didYouMean(r.name, p.index.namesIn(r.kind.Resource, w.key.Namespace))
	}
	if near := p.didYouMean(r.key, keysIn(o.value())); near != "" {
		return near
	}
	if f.code == manifests.CodeNoKey {
		return "it is declared at " + p.place(o.item, "")
	}
	return ""
}

func hasKey(o schema.Object, key string) bool {
	switch o := o.(type) {
	case *corev1.ConfigMap:
		_, text := o.Data[key]
		_, binary := o.BinaryData[key]
		return text || binary
	case *corev1.Secret:
		_, data := o.Data[key]
		_, text := o.StringData[key]
		return data || text
	}
	return false
}

// eachReference calls yield with every reference of a pod.
func eachReference(spec *corev1.PodSpec, yield func(reference)) {
	for i, v := range spec.Volumes {
		if m := v.ConfigMap; m != nil {
			eachItem(reference{kind: schema.ConfigMaps, name: m.Name, optional: m.Optional, at: place{list: "volumes", index: i, field: "configMap"}, named: "name"}, m.Items, yield)
		}
		if s := v.Secret; s != nil {
			eachItem(reference{kind: schema.Secrets, name: s.SecretName, optional: s.Optional, at: place{list: "volumes", index: i, field: "secret"}, named: "secretName"}, s.Items, yield)
		}
	}
	eachEnvironment(spec.InitContainers, "initContainers", yield)
	eachEnvironment(spec.Containers, "containers", yield)
}

func eachItem(r reference, items []corev1.KeyToPath, yield func(reference)) {
	if len(items) == 0 {
		yield(r)
	}
	for i, it := range items {
		r.key, r.keyed, r.keyItem = it.Key, "items", i
		yield(r)
	}
}

func eachEnvironment(containers []corev1.Container, list string, yield func(reference)) {
	for i := range containers {
		for j, from := range containers[i].EnvFrom {
			if m := from.ConfigMapRef; m != nil {
				yield(reference{kind: schema.ConfigMaps, name: m.Name, optional: m.Optional, at: place{list, i, "envFrom", j, "configMapRef"}, named: "name"})
			}
			if s := from.SecretRef; s != nil {
				yield(reference{kind: schema.Secrets, name: s.Name, optional: s.Optional, at: place{list, i, "envFrom", j, "secretRef"}, named: "name"})
			}
		}
		for j := range containers[i].Env {
			from := containers[i].Env[j].ValueFrom
			if from == nil {
				continue
			}
			if m := from.ConfigMapKeyRef; m != nil {
				yield(reference{kind: schema.ConfigMaps, name: m.Name, key: m.Key, optional: m.Optional, at: place{list, i, "env", j, "configMapKeyRef"}, named: "name", keyed: "key"})
			}
			if s := from.SecretKeyRef; s != nil {
				yield(reference{kind: schema.Secrets, name: s.Name, key: s.Key, optional: s.Optional, at: place{list, i, "env", j, "secretKeyRef"}, named: "name", keyed: "key"})
			}
		}
	}
}

// keysIn are the keys of a config map or secret, sorted.
func keysIn(o schema.Object) []string {
	switch o := o.(type) {
	case *corev1.ConfigMap:
		return sortedKeys(o.Data, o.BinaryData)
	case *corev1.Secret:
		return sortedKeys(o.StringData, o.Data)
	}
	return nil
}

func sortedKeys(text map[string]string, binary map[string][]byte) []string {
	keys := slices.AppendSeq(slices.Collect(maps.Keys(text)), maps.Keys(binary))
	slices.Sort(keys)
	return slices.Compact(keys)
}
