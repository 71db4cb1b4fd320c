package reconciler

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/registry/memory"
	"github.com/evenkeel/evenkeel/schema/validation"
)

type object = map[string]any

// drawObjects draws manifests of every kind that is worth it, by name.
func drawObjects(t *rapid.T, label string) []object {
	var out []object
	for _, name := range []string{"a", "b", "c"} {
		for _, kind := range []string{"ConfigMap", "Pod", "ReplicationController", "Secret", "Service"} {
			if !rapid.Bool().Draw(t, label+kind+name) {
				continue
			}
			obj := draws[kind](t)
			obj["kind"], obj["apiVersion"] = kind, "v1"
			meta := object{"name": name, "namespace": "shop"}
			if rapid.Bool().Draw(t, "labelled") {
				meta["labels"] = object{"app.kubernetes.io/name": word(t), "tier": word(t)}
			}
			if rapid.Bool().Draw(t, "annotated") {
				meta["annotations"] = object{"note": word(t), "example.org/owner": word(t)}
			}
			obj["metadata"] = meta
			out = append(out, obj)
		}
	}
	slices.SortFunc(out, func(a, b object) int { return strings.Compare(text(a), text(b)) })
	return out
}

var draws = map[string]func(*rapid.T) object{
	"ConfigMap": drawConfigMap, "Secret": drawSecret, "Service": drawService, "ReplicationController": drawController, "Pod": drawPod,
}

func word(t *rapid.T) string { return rapid.SampledFrom([]string{"x", "yes", "z9"}).Draw(t, "word") }

func drawData(t *rapid.T) object {
	data := object{}
	for _, key := range []string{"one", "two.conf", "three"} {
		if rapid.Bool().Draw(t, key) {
			data[key] = word(t)
		}
	}
	return data
}

func drawConfigMap(t *rapid.T) object { return object{"data": drawData(t)} }

func drawSecret(t *rapid.T) object {
	data := drawData(t)
	if rapid.Bool().Draw(t, "as text") {
		return object{"stringData": data}
	}
	for k, v := range data {
		data[k] = base64.StdEncoding.EncodeToString([]byte(v.(string)))
	}
	return object{"data": data}
}

func drawService(t *rapid.T) object {
	var ports []any
	for _, n := range []int{80, 81, 82} {
		if rapid.Bool().Draw(t, "port") || n == 82 && ports == nil {
			port := object{"name": fmt.Sprint("p", n), "port": n}
			if rapid.Bool().Draw(t, "target") {
				port["targetPort"] = word(t)
			}
			ports = append(ports, port)
		}
	}
	spec := object{"selector": object{"app": word(t)}, "ports": ports}
	if rapid.Bool().Draw(t, "nodePort") {
		spec["type"] = "NodePort"
	}
	return object{"spec": spec}
}

// quantities are values in their spellings.
var quantities = [][]any{{"1", "1000m", 1}, {"0.5", "500m"}, {"2", 2, "2e0"}}

func drawContainers(t *rapid.T) []any {
	var out []any
	for _, name := range []string{"main", "side"} {
		if name == "side" && !rapid.Bool().Draw(t, "side") {
			continue
		}
		c := object{"name": name, "image": "img:" + word(t)}
		if rapid.Bool().Draw(t, "env") {
			env := []any{}
			for _, v := range []string{"A", "B", "C"} {
				if rapid.Bool().Draw(t, v) {
					env = append(env, object{"name": v, "value": word(t)})
				}
			}
			c["env"] = env
		}
		if rapid.Bool().Draw(t, "args") {
			c["args"] = []any{word(t), word(t)}
		}
		if rapid.Bool().Draw(t, "cpu") {
			c["resources"] = object{"requests": object{"cpu": quantity(rapid.IntRange(0, len(quantities)-1).Draw(t, "quantity"))}}
		}
		out = append(out, c)
	}
	return out
}

// quantity is one that respell writes in any of its spellings.
type quantity int

func drawController(t *rapid.T) object {
	spec := object{
		"selector": object{"app": "x"},
		"template": object{"metadata": object{"labels": object{"app": "x"}}, "spec": object{"containers": drawContainers(t)}},
	}
	if rapid.Bool().Draw(t, "replicas") {
		spec["replicas"] = rapid.IntRange(0, 4).Draw(t, "n")
	}
	return object{"spec": spec}
}

func drawPod(t *rapid.T) object { return object{"spec": object{"containers": drawContainers(t)}} }

// write spells an object as JSON in any order of keys and any spelling of
// quantities, which is YAML too.
func write(t *rapid.T, v any) string {
	switch v := v.(type) {
	case quantity:
		return write(t, rapid.SampledFrom(quantities[v]).Draw(t, "spelling"))
	case object:
		keys := rapid.Permutation(slices.Sorted(maps.Keys(v))).Draw(t, "order")
		var parts []string
		for _, k := range keys {
			parts = append(parts, text(k)+": "+write(t, v[k]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case []any:
		var parts []string
		for _, item := range v {
			parts = append(parts, write(t, item))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return text(v)
}

// files lays objects out: a file each, documents of one, or a List.
func files(t *rapid.T, objs []object) map[string]string {
	out := map[string]string{}
	for i, obj := range objs {
		switch layout := rapid.SampledFrom([]string{"own", "documents", "list"}).Draw(t, "layout"); layout {
		case "own":
			out[fmt.Sprintf("%02d.yaml", i)] = write(t, obj)
		case "documents":
			out["all.yaml"] += "---\n" + write(t, obj) + "\n"
		case "list":
			out[fmt.Sprintf("list-%02d.json", i)] = `{"apiVersion": "v1", "kind": "List", "items": [` + write(t, obj) + `]}`
		}
	}
	return out
}

func load(t *rapid.T, content map[string]string) *manifests.Set {
	src := &fakeSource{name: "src", files: content}
	snapshot, _ := src.Snapshot(context.Background())
	sets, findings := manifests.NewLoader().Load(context.Background(), snapshot)
	if err := findings.Err(); err != nil {
		t.Fatal(err)
	}
	return sets[0]
}

// cluster is a store to which sets are applied.
type cluster struct {
	regs   *registry.Registries
	mirror *registry.Mirror
	ctx    context.Context
}

func newCluster(t *rapid.T) *cluster {
	store := memory.New()
	c := &cluster{regs: registry.New(store, registry.Config{Validator: validation.Rules{}, ServiceAccounts: true}), mirror: registry.NewMirror(registry.MirrorConfig{Store: store})}
	ctx, cancel := context.WithCancel(context.Background())
	c.ctx = ctx
	done := make(chan error, 1)
	go func() { done <- c.mirror.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	if _, err := c.regs.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}); err != nil {
		t.Fatal(err)
	}
	<-c.mirror.Synced()
	return c
}

func (c *cluster) base(t *rapid.T) *Base {
	base, err := LiveBase(c.mirror)
	if err != nil {
		t.Fatal(err)
	}
	return base
}

func (c *cluster) apply(t *rapid.T, set *manifests.Set) {
	plan := planned(t, c.base(t), set)
	for i := range plan.Changes { // what a running reconciler writes on objects is in no plan
		plan.Changes[i].location = "somewhere"
		plan.Changes[i].Entry.Origin = &Origin{Revision: "0123456789"}
	}
	revision, err := Apply(c.ctx, c.regs, plan)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.mirror.WaitFor(c.ctx, revision); err != nil {
		t.Fatal(err)
	}
}

func planned(t *rapid.T, base *Base, set *manifests.Set) *Plan {
	plan, err := base.Plan(validation.Rules{}, set)
	if err != nil {
		t.Fatal(err)
	}
	plan.Guard(base.Inventory, map[string]Candidate{set.Source: {Objects: len(set.Items)}}, MaxDelete{})
	return plan
}

func bytesOf(t *rapid.T, plan *Plan) string {
	data, err := json.MarshalIndent(plan, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestPlansAreTheSameFromEveryBase applies one set and plans another: against
// the cluster, against its export, and with no cluster at all.
func TestPlansAreTheSameFromEveryBase(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before := load(t, files(t, drawObjects(t, "before")))
		after := load(t, files(t, drawObjects(t, "after")))
		c := newCluster(t)
		c.apply(t, before)
		live := c.base(t)
		want := bytesOf(t, planned(t, live, after))

		var exported bytes.Buffer
		if err := live.export(&exported, &seal{Salt: []byte("salt"), Rounds: 1}); err != nil {
			t.Fatal(err)
		}
		read, err := ReadBase(&exported)
		if err != nil {
			t.Fatal(err)
		}
		if got := bytesOf(t, planned(t, read, after)); got != want {
			t.Fatalf("from an export (-), from the cluster (+):\n%s", cmp.Diff(got, want))
		}
		if got := bytesOf(t, planned(t, DeclaredBase(before), after)); got != want {
			t.Fatalf("from the other set (-), from the cluster (+):\n%s", cmp.Diff(got, want))
		}
	})
}

// TestSameObjectsInOtherWordsAreNoChange applies objects and plans them again,
// written differently.
func TestSameObjectsInOtherWordsAreNoChange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		objs := drawObjects(t, "")
		c := newCluster(t)
		c.apply(t, load(t, files(t, objs)))
		plan := planned(t, c.base(t), load(t, files(t, objs)))
		if plan.Pending() || len(plan.Problems) > 0 || plan.Unchanged != len(objs) {
			t.Fatalf("%s", bytesOf(t, plan))
		}
	})
}
