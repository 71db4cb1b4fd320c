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
	path     string // of what names it, below the pod's spec
	field    string // of the name, below path
	keyField string
}

// checkReferences finds config maps, secrets and keys that a pod waits for in
// vain. What is missing is said once for each object that needs it.
func (c *checker) checkReferences(w *workload) {
	var said map[string]bool
	eachReference(w.spec, func(r reference) {
		if r.name == "" || r.optional != nil && *r.optional {
			return
		}
		f, wrong := c.missing(w, r)
		if !wrong || said[f.message] {
			return
		}
		if said == nil {
			said = map[string]bool{}
		}
		said[f.message] = true
		if f.suggestion == "" {
			f.suggestion = c.suggestReferent(w, r, f)
		}
		c.report(w.item, f)
	})
}

// missing reports whether what is referred to is not there.
func (c *checker) missing(w *workload, r reference) (finding, bool) {
	e, ok := c.index.objects[r.kind.Key(w.namespace, r.name)]
	code, word := manifests.CodeNoConfigMap, "config map"
	if r.kind == schema.Secrets {
		code, word = manifests.CodeNoSecret, "secret"
	}
	f := finding{code: code, field: w.path + "." + r.path + "." + r.field}
	if !ok {
		f.message = fmt.Sprintf("the %s %q is %s; the pod waits for it", word, r.name, c.notThere())
		return f, true
	}
	if r.key == "" || hasKey(e.object, r.key) {
		return f, false
	}
	f.field = w.path + "." + r.path + "." + r.keyField
	if e.item == nil {
		f.message = fmt.Sprintf("the %s %q in the cluster has no key %q; the pod waits for it", word, r.name, r.key)
		return f, true
	}
	f.code = manifests.CodeNoKey
	f.message = fmt.Sprintf("the %s %q has no key %q", word, r.name, r.key)
	return f, true
}

// suggestReferent guesses which name or key was meant.
func (c *checker) suggestReferent(w *workload, r reference, f finding) string {
	e, ok := c.index.objects[r.kind.Key(w.namespace, r.name)]
	if !ok {
		return c.didYouMean(r.name, c.index.names[family{r.kind.Resource, w.namespace}])
	}
	if near := c.didYouMean(r.key, keysIn(e.object)); near != "" {
		return near
	}
	if f.code == manifests.CodeNoKey {
		return "it is declared at " + c.place(e.item, "")
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
		path := fmt.Sprintf("volumes[%d].", i)
		if m := v.ConfigMap; m != nil {
			r := reference{kind: schema.ConfigMaps, name: m.Name, optional: m.Optional, path: path + "configMap", field: "name"}
			eachItem(r, m.Items, yield)
		}
		if s := v.Secret; s != nil {
			r := reference{kind: schema.Secrets, name: s.SecretName, optional: s.Optional, path: path + "secret", field: "secretName"}
			eachItem(r, s.Items, yield)
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
		r.key, r.keyField = it.Key, fmt.Sprintf("items[%d].key", i)
		yield(r)
	}
}

func eachEnvironment(containers []corev1.Container, field string, yield func(reference)) {
	for i := range containers {
		for j, from := range containers[i].EnvFrom {
			path := fmt.Sprintf("%s[%d].envFrom[%d].", field, i, j)
			if m := from.ConfigMapRef; m != nil {
				yield(reference{kind: schema.ConfigMaps, name: m.Name, optional: m.Optional, path: path + "configMapRef", field: "name"})
			}
			if s := from.SecretRef; s != nil {
				yield(reference{kind: schema.Secrets, name: s.Name, optional: s.Optional, path: path + "secretRef", field: "name"})
			}
		}
		for j, env := range containers[i].Env {
			if env.ValueFrom == nil {
				continue
			}
			path := fmt.Sprintf("%s[%d].env[%d].valueFrom.", field, i, j)
			if m := env.ValueFrom.ConfigMapKeyRef; m != nil {
				yield(reference{schema.ConfigMaps, m.Name, m.Key, m.Optional, path + "configMapKeyRef", "name", "key"})
			}
			if s := env.ValueFrom.SecretKeyRef; s != nil {
				yield(reference{schema.Secrets, s.Name, s.Key, s.Optional, path + "secretKeyRef", "name", "key"})
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
