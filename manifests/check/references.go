package check

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema"
)

// reference is a pod's need of a config map or secret, or of a key in one, of
// a claim or an account.
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
	list  string // volumes, containers, initContainers; "" for the pod itself
	index int
	below string // env, envFrom, projected.sources, or "" for a volume
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

func (r reference) nameField() string {
	if r.at.list == "" {
		return r.named
	}
	return r.at.path() + "." + r.named
}

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

// isOptional reports whether a pod starts without what is referred to, or
// whether every namespace is given it.
func (r *reference) isOptional() bool {
	switch {
	case r.name == "", r.optional != nil && *r.optional:
		return true
	case r.kind == schema.ConfigMaps:
		return r.name == "kube-root-ca.crt"
	case r.kind == schema.ServiceAccounts:
		return r.name == "default"
	}
	return false
}

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

// needs are the kinds that pods refer to, with what becomes of a pod without.
var needs = map[string]struct{ code, word, without string }{
	schema.ConfigMaps.Resource:             {manifests.CodeNoConfigMap, "config map", "the pod waits for it"},
	schema.Secrets.Resource:                {manifests.CodeNoSecret, "secret", "the pod waits for it"},
	schema.PersistentVolumeClaims.Resource: {manifests.CodeNoClaim, "persistent volume claim", "the pod waits for it"},
	schema.ServiceAccounts.Resource:        {manifests.CodeNoAccount, "service account", "the pod is refused without it"},
}

// missing says that what is referred to is not there.
func (c *Checker) missing(w *object, r reference) finding {
	o := c.index.objects[r.kind.Key(w.key.Namespace, r.name)]
	needed := needs[r.kind.Resource]
	f := finding{code: needed.code}
	switch {
	case o == nil:
		f.field = w.path + "." + r.nameField()
		f.message = fmt.Sprintf("the %s %q is %s; %s", needed.word, r.name, c.notThere(), needed.without)
	case o.item == nil:
		f.field = w.path + "." + r.keyField()
		f.message = fmt.Sprintf("the %s %q in the cluster has no key %q; %s", needed.word, r.name, r.key, needed.without)
	default:
		f.code, f.field = manifests.CodeNoKey, w.path+"."+r.keyField()
		f.message = fmt.Sprintf("the %s %q has no key %q", needed.word, r.name, r.key)
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
	if name := spec.ServiceAccountName; name != "" {
		yield(reference{kind: schema.ServiceAccounts, name: name, named: "serviceAccountName"})
	}
	for i, v := range spec.Volumes {
		if m := v.ConfigMap; m != nil {
			eachItem(reference{kind: schema.ConfigMaps, name: m.Name, optional: m.Optional, at: place{list: "volumes", index: i, field: "configMap"}, named: "name"}, m.Items, yield)
		}
		if s := v.Secret; s != nil {
			eachItem(reference{kind: schema.Secrets, name: s.SecretName, optional: s.Optional, at: place{list: "volumes", index: i, field: "secret"}, named: "secretName"}, s.Items, yield)
		}
		if c := v.PersistentVolumeClaim; c != nil {
			yield(reference{kind: schema.PersistentVolumeClaims, name: c.ClaimName, at: place{list: "volumes", index: i, field: "persistentVolumeClaim"}, named: "claimName"})
		}
		if p := v.Projected; p != nil {
			eachSource(p.Sources, i, yield)
		}
	}
	eachEnvironment(spec.InitContainers, "initContainers", yield)
	eachEnvironment(spec.Containers, "containers", yield)
}

func eachSource(sources []corev1.VolumeProjection, volume int, yield func(reference)) {
	for j, from := range sources {
		at := place{list: "volumes", index: volume, below: "projected.sources", item: j}
		if m := from.ConfigMap; m != nil {
			at.field = "configMap"
			eachItem(reference{kind: schema.ConfigMaps, name: m.Name, optional: m.Optional, at: at, named: "name"}, m.Items, yield)
		}
		if s := from.Secret; s != nil {
			at.field = "secret"
			eachItem(reference{kind: schema.Secrets, name: s.Name, optional: s.Optional, at: at, named: "name"}, s.Items, yield)
		}
	}
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
