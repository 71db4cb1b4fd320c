package check

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema"
)

// pieces are objects that get in one another's way.
var pieces = []string{
	"apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n",
	"apiVersion: v1\nkind: Namespace\nmetadata: {name: shops}\n",
	"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, namespace: shop}\ndata: {color: blue}\n",
	"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, namespace: shop}\ndata: {colour: blue}\n",
	"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: setting, namespace: shop}\n",
	"apiVersion: v1\nkind: Secret\nmetadata: {name: token}\nstringData: {t: x}\n",
	"apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop, labels: {app: web}}\nspec:\n  containers:\n" +
		"  - {name: c, image: i, ports: [{name: http, containerPort: 80}], env: [{name: A, valueFrom: {configMapKeyRef: {name: settings, key: color}}}]}\n",
	"apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop, labels: {app: wed}}\nspec:\n  containers:\n" +
		"  - {name: c, image: i, ports: [{name: www, containerPort: 80, hostPort: 80}], resources: {requests: {cpu: 3}}}\n",
	"apiVersion: v1\nkind: ReplicationController\nmetadata: {name: web}\nspec:\n  replicas: 2\n  selector: {app: web}\n  template:\n" +
		"    metadata: {labels: {app: web, tier: front}}\n    spec:\n      containers:\n      - {name: c, image: i, ports: [{name: http, containerPort: 80, hostPort: 81}], envFrom: [{secretRef: {name: token}}, {configMapRef: {name: none, optional: true}}]}\n",
	"apiVersion: v1\nkind: ReplicationController\nmetadata:\n  name: web\n  annotations: {evenkeel.io/ignore: \"E0604 E9999\"}\nspec:\n  selector: {tier: back}\n  template:\n" +
		"    metadata: {labels: {tier: back}}\n    spec:\n      containers: [{name: c, image: i, envFrom: [{secretRef: {name: tokens}}]}]\n",
	"apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec:\n  selector: {app: web}\n  ports: [{port: 80, targetPort: http}]\n",
	"apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  type: NodePort\n  selector: {app: web, tier: front}\n  ports: [{port: 80, targetPort: htp, nodePort: 30080}]\n",
	"apiVersion: v1\nkind: Service\nmetadata: {name: back, annotations: {evenkeel.io/ignore: W0601}}\nspec:\n  type: NodePort\n  clusterIP: 10.96.0.7\n  selector: {tier: back}\n  ports: [{port: 80, nodePort: 30080}]\n",
	"apiVersion: v1\nkind: Service\nmetadata: {name: other}\nspec:\n  clusterIP: 10.96.0.7\n  selector: {tier: bakc}\n  ports: [{port: 80}]\n",
}

// TestCheckerFollowsChanges makes random changes one after the other, and
// wants a checker that knows only the changes to say what Check does.
func TestCheckerFollowsChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		known := rapid.Bool().Draw(t, "known")
		w := world{checker: NewChecker(known, Disabled{}), loader: manifests.NewLoader(), in: Cluster{Known: known}, live: map[schema.Key]schema.Object{}}
		w.files = []map[string]string{{}, {}}
		for range rapid.IntRange(1, 30).Draw(t, "rounds") {
			for range rapid.IntRange(0, 4).Draw(t, "changes") {
				w.change(t)
			}
			sets, found := w.load()
			if found.HasErrors() {
				t.Fatal(found.Err())
			}
			w.checker.Declare(sets...)
			w.in.Objects = slices.Collect(maps.Values(w.live))
			want := Check(sets, w.in, Disabled{})
			if diff := cmp.Diff(want, w.checker.Findings()); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}

// world is what sources and cluster hold.
type world struct {
	checker *Checker
	loader  *manifests.Loader
	files   []map[string]string
	live    map[schema.Key]schema.Object
	in      Cluster
}

// change changes one thing.
func (w *world) change(t *rapid.T) {
	piece := rapid.SampledFrom(pieces).Draw(t, "piece")
	switch rapid.IntRange(0, 5).Draw(t, "what") {
	case 0:
		obj := loadPiece(piece)
		key := schema.KeyOf(obj)
		if w.live[key] != nil {
			obj = nil
			delete(w.live, key)
		} else {
			w.live[key] = obj
		}
		w.checker.Beside(key, obj)
	case 1:
		w.in.Nodes = nil
		for i := range rapid.IntRange(0, 2).Draw(t, "nodes") {
			n := node([]string{"n1", "n2"}[i])
			n.Status.Allocatable[corev1.ResourceCPU] = resource.MustParse(rapid.SampledFrom([]string{"2", "4"}).Draw(t, "cpu"))
			w.in.Nodes = append(w.in.Nodes, n)
		}
		w.checker.SetNodes(w.in.Nodes)
	default:
		path := strings.ReplaceAll(schema.KeyOf(loadPiece(piece)).String(), "/", "-") + ".yaml"
		before := w.files[0][path] + w.files[1][path]
		delete(w.files[0], path)
		delete(w.files[1], path)
		if before != piece {
			w.files[rapid.IntRange(0, 1).Draw(t, "source")][path] = piece
		}
	}
}

func (w *world) load() ([]*manifests.Set, manifests.Diagnostics) {
	var snaps []manifests.Snapshot
	for i, files := range w.files {
		var list []string
		for _, path := range slices.Sorted(maps.Keys(files)) {
			list = append(list, path, files[path])
		}
		snaps = append(snaps, snapshot([]string{"one", "two"}[i], list...))
	}
	return w.loader.Load(context.Background(), snaps...)
}

func loadPiece(text string) schema.Object {
	sets, found := manifests.NewLoader().Load(context.Background(), snapshot("live", "f.yaml", text))
	if found.HasErrors() {
		panic(strings.Join([]string{text, found.Err().Error()}, "\n"))
	}
	return sets[0].Items[0].Object
}
