package manifests

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/schema"
)

// snapshot makes a snapshot of files given as path, content, path, content, …
func snapshot(source string, files ...string) Snapshot {
	s := Snapshot{Source: source, Location: source, Revision: "r"}
	sum := sha256.New()
	for i := 0; i < len(files); i += 2 {
		path, content := files[i], files[i+1]
		hash := sha256.Sum256([]byte(content))
		s.Files = append(s.Files, File{Path: path, Hash: hex.EncodeToString(hash[:]), Read: func() ([]byte, error) { return []byte(content), nil }})
		fmt.Fprintf(sum, "%s %x\n", path, hash)
	}
	s.Tree = hex.EncodeToString(sum.Sum(nil))
	return s
}

func load(t *testing.T, snaps ...Snapshot) ([]*Set, Diagnostics) {
	t.Helper()
	return NewLoader().Load(context.Background(), snaps...)
}

func keysOf(set *Set) []string {
	var keys []string
	for _, it := range set.Items {
		keys = append(keys, it.Key.String())
	}
	return keys
}

const podYAML = `apiVersion: v1
kind: Pod
metadata:
  name: web
  labels:
    app: web
spec:
  containers:
  - name: a
    image: nginx
    resources:
      limits:
        cpu: 1000m
    env:
    - name: LANG
      value: "C"
`

func TestLoad(t *testing.T) {
	sets, found := load(t, snapshot("s", "web.yaml", podYAML))
	if len(found) > 0 {
		t.Fatalf("findings: %v", found)
	}
	item := sets[0].Items[0]
	want := `{"apiVersion":"v1","kind":"Pod","metadata":{"labels":{"app":"web"},"name":"web","namespace":"default"},` +
		`"spec":{"containers":[{"env":[{"name":"LANG","value":"C"}],"image":"nginx","name":"a","resources":{"limits":{"cpu":"1"}}}]}}`
	if diff := cmp.Diff(want, string(item.Declared)); diff != "" {
		t.Errorf("declared (-want +got):\n%s", diff)
	}
	for path, want := range map[string]string{
		"spec.containers[0].image":         "web.yaml:10:12",
		"metadata.labels[app]":             "web.yaml:6:10",
		"spec.containers":                  "web.yaml:8:3",
		"spec.containers[0].env[0]":        "web.yaml:15:7",
		"spec.containers[0].workingDir":    "web.yaml:9:5",
		"spec.terminationGracePeriodSecon": "web.yaml:7:1",
		"metadata.namespace":               "web.yaml:4:3",
		"":                                 "web.yaml:1:1",
	} {
		if got, _ := item.Position(path); got.String() != want {
			t.Errorf("position of %s: %s, want %s", path, got, want)
		}
	}
}

// TestSameMeaning writes one object in many ways.
func TestSameMeaning(t *testing.T) {
	want, _ := load(t, snapshot("s", "a.yaml", podYAML))
	for name, text := range map[string]string{
		"CRLF":          strings.ReplaceAll(podYAML, "\n", "\r\n"),
		"BOM":           "\ufeff" + podYAML,
		"comments":      "# one\n---\n# two\n---\n" + podYAML + "...\n---\n\n",
		"directive":     "%YAML 1.1\n---\n" + podYAML,
		"list":          "apiVersion: v1\nkind: List\nitems:\n- " + strings.ReplaceAll(strings.TrimSpace(podYAML), "\n", "\n  "),
		"typed list":    "apiVersion: v1\nkind: PodList\nmetadata: {resourceVersion: \"1\"}\nitems:\n- " + strings.ReplaceAll(strings.TrimSpace(strings.TrimPrefix(podYAML, "apiVersion: v1\nkind: Pod\n")), "\n", "\n  "),
		"JSON":          `{"spec":{"containers":[{"name":"a","image":"nginx","resources":{"limits":{"cpu":1}},"env":[{"name":"LANG","value":"C"}]}]},"metadata":{"labels":{"app":"web"},"name":"web"},"kind":"Pod","apiVersion":"v1"}`,
		"nulls":         podYAML + "  nodeName:\n  volumes: null\nstatus: {}\n",
		"server fields": strings.Replace(podYAML, "  name: web\n", "  name: web\n  creationTimestamp: null\n  namespace: default\n", 1),
		"anchors":       strings.Replace(strings.Replace(podYAML, "app: web", "app: &n web", 1), "name: web", "name: &m web", 1),
		"merge":         strings.Replace(podYAML, "  - name: a\n    image: nginx\n", "  - <<: {name: b, image: nginx}\n    name: a\n", 1),
	} {
		t.Run(name, func(t *testing.T) {
			got, found := load(t, snapshot("s", "a.yaml", text))
			if len(found) > 0 || len(got[0].Items) != 1 {
				t.Fatalf("%d items, findings: %v", len(got[0].Items), found)
			}
			if diff := cmp.Diff(string(want[0].Items[0].Declared), string(got[0].Items[0].Declared)); diff != "" {
				t.Errorf("declared (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(want[0].Items[0].Object, got[0].Items[0].Object); diff != "" {
				t.Errorf("object (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSecretIsFolded(t *testing.T) {
	sets, found := load(t, snapshot("s", "a.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: YQ==, b: YQ==}\nstringData: {b: c}\n"))
	if len(found) > 0 {
		t.Fatal(found)
	}
	want := `{"apiVersion":"v1","data":{"a":"YQ==","b":"Yw=="},"kind":"Secret","metadata":{"name":"s","namespace":"default"}}`
	if got := string(sets[0].Items[0].Declared); got != want {
		t.Errorf("declared %s, want %s", got, want)
	}
}

func TestJSONEscapes(t *testing.T) {
	text := "---\n" + `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"},"data":{"a":"\ud83d\uDE00 \/ \u00e9 \\ud83d\\/ \ud83dx"}}`
	sets, found := load(t, snapshot("s", "a.json", text))
	if len(found) > 0 {
		t.Fatal(found)
	}
	want := map[string]string{"a": "😀 / é \\ud83d\\/ \ufffdx"}
	if diff := cmp.Diff(want, sets[0].Items[0].Object.(*corev1.ConfigMap).Data); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTooBig(t *testing.T) {
	for name, text := range map[string]string{
		"file":      strings.Repeat("#", maxFileBytes+1),
		"documents": strings.Repeat("---\na\n", maxDocuments+1),
		"object":    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: " + strings.Repeat("x", maxObjectBytes) + "}\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, found := load(t, snapshot("s", "a.yaml", text))
			if len(found) != 1 || found[0].Code != codeTooBig {
				t.Errorf("%d findings: %.200v", len(found), found)
			}
		})
	}
}

func TestDeclaredTwice(t *testing.T) {
	sets, found := load(t,
		snapshot("one", "a.yaml", podYAML, "b.yaml", "# again\n"+podYAML),
		snapshot("two", "c.yaml", podYAML))
	want := []string{
		"b.yaml:2:1: error[E0401]: pods/default/web is declared twice, both in source one (Pod web); first declared at one: a.yaml:1:1",
		"c.yaml:1:1: error[E0401]: pods/default/web is declared twice, in source one and again in source two (Pod web); first declared at one: a.yaml:1:1",
	}
	var got []string
	for _, d := range found {
		got = append(got, d.String())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(sets[0].Items) != 1 || len(sets[1].Items) != 0 {
		t.Errorf("items: %v %v", keysOf(sets[0]), keysOf(sets[1]))
	}
}

func TestOneBrokenDocumentHidesNoOther(t *testing.T) {
	config := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata:\n  text: |\n    a\n    ---\n    b\n"
	text := fmt.Sprintf(config, "one") + "---\nkind: [\n---\n" + fmt.Sprintf(config, "two") + "---\nkind: {{ .Values.kind }}\n--- # the last\n" + fmt.Sprintf(config, "three")
	sets, found := load(t, snapshot("s", "a.yaml", text))
	if diff := cmp.Diff([]string{"configmaps/default/one", "configmaps/default/three", "configmaps/default/two"}, keysOf(sets[0])); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var lines []int
	for _, d := range found {
		lines = append(lines, d.Position.Document, d.Position.Line)
	}
	if len(found) != 2 || found[0].Position.Document != 2 || found[1].Position.Document != 4 {
		t.Errorf("findings: %v, document and line %v", found, lines)
	}
}

func TestUnreadableFileIsAnError(t *testing.T) {
	snap := snapshot("s", "a.yaml", podYAML, "b.yaml", "x")
	snap.Files[1].Read = func() ([]byte, error) { return nil, errors.New("boom") }
	loader := NewLoader()
	for range 2 { // nothing of it is remembered
		_, found := loader.Load(context.Background(), snap)
		if !found.HasErrors() || !strings.Contains(found[0].String(), "b.yaml: error[E0001]: cannot read the file: boom") {
			t.Errorf("findings: %v", found)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, found := NewLoader().Load(ctx, snapshot("s", "a.yaml", podYAML)); !found.HasErrors() {
		t.Error("a cancelled load is taken for complete")
	}
}

func TestUnchangedIsNotReadAgain(t *testing.T) {
	reads := 0
	counted := func(s Snapshot) Snapshot {
		for i := range s.Files {
			read := s.Files[i].Read
			s.Files[i].Read = func() ([]byte, error) { reads++; return read() }
		}
		return s
	}
	other := strings.ReplaceAll(podYAML, "name: web", "name: other")
	loader := NewLoader()
	for _, step := range []struct {
		snap  Snapshot
		reads int
		keys  []string
	}{
		{snapshot("s", "a.yaml", podYAML), 1, []string{"pods/default/web"}},
		{snapshot("s", "a.yaml", podYAML), 0, []string{"pods/default/web"}},
		{snapshot("s", "a.yaml", podYAML, "b.yaml", other), 1, []string{"pods/default/other", "pods/default/web"}},
		{snapshot("s", "c.yaml", podYAML), 0, []string{"pods/default/web"}},
		{snapshot("s", "b.yaml", other), 0, []string{"pods/default/other"}},
	} {
		reads = 0
		sets, found := loader.Load(context.Background(), counted(step.snap))
		if reads != step.reads || len(found) > 0 || !slices.Equal(keysOf(sets[0]), step.keys) {
			t.Errorf("%d reads, want %d; %v, want %v; findings %v", reads, step.reads, keysOf(sets[0]), step.keys, found)
		}
	}
}

func TestSetFind(t *testing.T) {
	sets, _ := load(t, snapshot("s", "a.yaml", podYAML, "b.yaml", strings.ReplaceAll(podYAML, "name: web", "name: other")))
	if it, ok := sets[0].Find(schema.Pods.Key("default", "web")); !ok || it.Object.GetName() != "web" {
		t.Errorf("found %v, %v", it.Key, ok)
	}
	if _, ok := sets[0].Find(schema.Pods.Key("default", "none")); ok {
		t.Error("found what is not there")
	}
}

// TestProgress loads small files and one of many documents, which are parsed in
// another way, and wants to hear of them while they are.
func TestProgress(t *testing.T) {
	const files = 200
	snap := Snapshot{Source: "s"}
	for i := range files {
		text := fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c%d}\n", i)
		if i == 7 {
			text = strings.Repeat("---\n# nothing\n", 100) + text
			for n := range 100 {
				text += fmt.Sprintf("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: many%d}\n", n)
			}
		}
		snap.Files = append(snap.Files, File{Path: fmt.Sprintf("%03d.yaml", i), Hash: text, Read: func() ([]byte, error) { return []byte(text), nil }})
	}
	var mu sync.Mutex
	told := map[int]bool{}
	loader := NewLoader()
	loader.Progress = func(done, total int) {
		mu.Lock()
		defer mu.Unlock()
		if told[done] || total != files {
			t.Errorf("told of %d of %d", done, total)
		}
		told[done] = true
	}
	if _, found := loader.Load(t.Context(), snap); len(found) > 0 {
		t.Fatal(found)
	}
	if !told[files] || len(told) != 1+files/tellEvery {
		t.Errorf("told of %v", slices.Sorted(maps.Keys(told)))
	}
}
