package check

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/evenkeel/evenkeel/manifests"
)

func codesOf(found manifests.Diagnostics) []string {
	var codes []string
	for _, d := range found {
		codes = append(codes, d.Code)
	}
	return codes
}

func TestIgnore(t *testing.T) {
	text := func(annotation string) string {
		return strings.Replace(serviceYAML, "name: web", "name: web\n  annotations: {"+Ignore+": \""+annotation+"\"}", 1) + "  selector: {app: web}\n  ports: [{port: 80}]\n"
	}
	for _, tc := range []struct {
		annotation string
		off        []string
		want       []string
	}{
		{"", nil, []string{"W0601"}},
		{"W0602", nil, []string{"W0601"}},
		{"W0602, w0601", nil, nil},
		{"", []string{"W0601"}, nil},
		{"E0301", nil, []string{"W0612", "W0601"}},
		{"W0601,W6012", nil, []string{"W0612"}},
		{"W0601,W6012", []string{"W0612"}, nil},
	} {
		t.Run(tc.annotation+fmt.Sprint(tc.off), func(t *testing.T) {
			off, err := Disable(tc.off...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, codesOf(Check(load(t, snapshot("s", "f.yaml", text(tc.annotation))), Cluster{}, off))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestIgnoreOneOfTwo turns a claim off at one of its places; the other stays.
func TestIgnoreOneOfTwo(t *testing.T) {
	claim := "  clusterIP: 10.96.0.9\n  ports: [{port: 80}]\n"
	text := strings.Replace(serviceYAML, "name: web", "name: web\n  annotations: {"+Ignore+": E0607}", 1) + claim + "---\n" + strings.Replace(serviceYAML, "web", "api", 1) + claim
	found := Check(load(t, snapshot("s", "f.yaml", text)), Cluster{}, nil)
	if len(found) != 1 || found[0].Object != "Service api" {
		t.Errorf("findings: %v", found)
	}
}

func TestDisable(t *testing.T) {
	off, err := Disable("w0601,E0606", "W0602")
	if err != nil || !cmp.Equal(off, Disabled{"W0601": true, "E0606": true, "W0602": true}) {
		t.Errorf("%v, %v", off, err)
	}
	for code, want := range map[string]string{
		"E0301": "E0301 cannot be ignored: it is no check across objects",
		"E0601": `unknown code "E0601": did you mean "W0601"?`,
		"w06o1": `unknown code "w06o1": did you mean "W0601"?`,
		"xyz":   `unknown code "xyz"`,
	} {
		if _, err := Disable(code); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", code, err, want)
		}
	}
}

// TestSources names the source of a place in another one.
func TestSources(t *testing.T) {
	claim := "  clusterIP: 10.96.0.9\n  ports: [{port: 80}]\n"
	sets := load(t, snapshot("one", "a.yaml", serviceYAML+claim), snapshot("two", "a.yaml", strings.Replace(serviceYAML, "web", "api", 1)+claim))
	var got []string
	for _, d := range Check(sets, Cluster{}, nil) {
		got = append(got, d.Position.Source+": "+d.Suggestion)
	}
	want := []string{"one: also by Service api at two: a.yaml:6:14", "two: also by Service web at one: a.yaml:6:14"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestQuote(t *testing.T) {
	secret := "---\napiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: shop}\nstringData: {p: hunter2}\n"
	snap := snapshot("s", "f.yaml", "# first\n"+serviceYAML+"  selector: {app: web}\n  ports: [{port: 80}]\n"+secret)
	found := Check(load(t, snap), Cluster{}, nil)
	manifests.Quote(found, snap)
	var b bytes.Buffer
	if err := found.Render(&b); err != nil {
		t.Fatal(err)
	}
	want := `warning[W0601]: the service selects nothing: no pod declared in namespace default has the label app=web
  --> f.yaml:7:19  (Service web)
   |
 7 |   selector: {app: web}
   |                   ^^^

warning[W0610]: the namespace "shop" is not declared here (the cluster was not looked at)
   --> f.yaml:12:32  (document 2, Secret shop/s)
    = declare it: apiVersion: v1, kind: Namespace
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// many are objects of which every service selects one pod in thousands that
// look alike, half of them by a port that is not there.
func many(n int) string {
	var b strings.Builder
	for i := range n / 4 {
		fmt.Fprintf(&b, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings-%d}\ndata: {color: blue}\n---\n", i)
		fmt.Fprintf(&b, "apiVersion: v1\nkind: Service\nmetadata: {name: web-%d}\nspec:\n  selector: {app: web, instance: web-%d}\n  ports: [{port: 80, targetPort: %s}]\n---\n", i, i, []string{"http", "htpp"}[i%2])
		for j := range 2 {
			fmt.Fprintf(&b, "apiVersion: v1\nkind: Pod\nmetadata: {name: web-%d-%d, labels: {app: web, instance: web-%d, tier: front}}\nspec:\n  containers:\n  - name: web\n    image: web\n    ports: [{name: http, containerPort: 80}]\n    env: [{name: A, valueFrom: {configMapKeyRef: {name: settings-%d, key: color}}}]\n    envFrom: [{secretRef: {name: token-%d}}]\n---\n", i, j, i, i, i)
		}
	}
	return b.String()
}

func TestDeterministic(t *testing.T) {
	sets := load(t, snapshot("s", "f.yaml", many(400)))
	want := Check(sets, Cluster{}, nil)
	if len(want) != 50+200 {
		t.Fatalf("%d findings", len(want))
	}
	for range 5 {
		if got := Check(sets, Cluster{}, nil); !slices.Equal(want, got) {
			t.Fatal("the same sets give other findings")
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	wrong := many(10_000)
	right := strings.NewReplacer("htpp", "http", "    envFrom: [{secretRef: {name: token-", "    envFrom: [{configMapRef: {name: settings-").Replace(wrong)
	cluster := Cluster{}
	for i := range 100 {
		cluster.Nodes = append(cluster.Nodes, node(fmt.Sprint(i)))
	}
	for name, text := range map[string]string{"right": right, "wrong": wrong} {
		b.Run(name, func(b *testing.B) {
			sets := load(b, snapshot("s", "f.yaml", text))
			for b.Loop() {
				if found := Check(sets, cluster, nil); (len(found) == 0) != (name == "right") {
					b.Fatalf("%d findings", len(found))
				}
			}
		})
	}
}
