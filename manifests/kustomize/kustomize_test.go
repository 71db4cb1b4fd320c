package kustomize_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/manifests/kustomize"
)

// source is a source in memory, as directories and git give theirs.
type source struct {
	files map[string]string
	err   error // of reading a file
	reads map[string]int
}

func newSource(text string) *source {
	s := &source{files: map[string]string{}, reads: map[string]int{}}
	for _, f := range txtar.Parse([]byte(text)).Files {
		s.files[f.Name] = string(f.Data)
	}
	return s
}

func (s *source) Name() string { return "mem" }

func (s *source) Watch(ctx context.Context, _ func()) error { <-ctx.Done(); return nil }

func (s *source) Snapshot(context.Context) (manifests.Snapshot, error) {
	snap := manifests.Snapshot{Source: "mem", Location: "/mem", Revision: "1"}
	tree := sha256.New()
	for name, text := range s.files {
		sum := sha256.Sum256([]byte(text))
		f := manifests.File{Path: name, Hash: hex.EncodeToString(sum[:]), Read: func() ([]byte, error) {
			s.reads[name]++
			return []byte(text), s.err
		}}
		if manifests.HasManifestName(name) {
			snap.Files = append(snap.Files, f)
		} else {
			snap.Assets = append(snap.Assets, f)
		}
	}
	for _, files := range [][]manifests.File{snap.Files, snap.Assets} {
		slices.SortFunc(files, func(a, b manifests.File) int { return strings.Compare(a.Path, b.Path) })
		for _, f := range files {
			fmt.Fprintln(tree, f.Path, f.Hash)
		}
	}
	snap.Tree = hex.EncodeToString(tree.Sum(nil))
	return snap, nil
}

// load renders and loads; the findings come one a line.
func load(t *testing.T, s manifests.Source) (*manifests.Set, manifests.Snapshot, string) {
	t.Helper()
	snap, err := s.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	sets, found := manifests.NewLoader().Load(context.Background(), snap)
	var lines []string
	for _, d := range found {
		lines = append(lines, d.String()+"\n")
	}
	return sets[0], snap, strings.Join(lines, "")
}

const base = `
-- base/kustomization.yaml --
resources: [web.yaml, svc.yaml]
configMapGenerator:
  - name: web
    files: [motd.txt, settings=conf/app.ini]
    envs: [.env]
-- base/motd.txt --
hello
-- base/conf/app.ini --
[app]
-- base/.env --
LEVEL=info
-- base/web.yaml --
apiVersion: v1
kind: ReplicationController
metadata:
  name: web
spec:
  replicas: 1
  template:
    metadata:
      labels:
        app: web
    spec:
      containers:
        - name: web
          image: web:1
          envFrom:
            - configMapRef:
                name: web
-- base/svc.yaml --
apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  selector:
    app: web
  ports:
    - port: 80
`

const overlay = `
-- prod/kustomization.yaml --
namespace: shop
namePrefix: prod-
resources: [../base]
images:
  - name: web
    newTag: "7"
patches:
  - path: replicas.yaml
  - patch: |-
      apiVersion: v1
      kind: Service
      metadata:
        name: web
      spec:
        type: NodePort
-- prod/replicas.yaml --
# what production needs
apiVersion: v1
kind: ReplicationController
metadata:
  name: web
spec:
  replicas: 3
-- other/pod.yaml --
apiVersion: v1
kind: Pod
metadata:
  name: plain
spec:
  containers:
    - name: a
      image: a:1
`

func TestOverlay(t *testing.T) {
	set, snap, found := load(t, kustomize.NewSource(newSource(base+overlay)))
	if found != "" {
		t.Fatal(found)
	}
	var keys []string
	for _, it := range set.Items {
		keys = append(keys, it.Key.String()+" "+it.Place.String())
	}
	want := []string{
		"configmaps/shop/prod-web-25t6b59255 prod/kustomization.yaml:1:1",
		"pods/default/plain other/pod.yaml:1:1",
		"replicationcontrollers/shop/prod-web base/web.yaml:1:1",
		"services/shop/prod-web base/svc.yaml:1:1",
	}
	for i := range keys { // the hash is kustomize's
		if strings.HasPrefix(keys[i], "configmaps/shop/prod-web-") {
			want[0] = strings.Fields(keys[i])[0] + " base/kustomization.yaml:3:5"
		}
	}
	if diff := cmp.Diff(want, keys); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
	var files []string
	for _, f := range snap.Files {
		files = append(files, f.Path)
	}
	if diff := cmp.Diff([]string{"other/pod.yaml", "prod/kustomization.yaml"}, files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	var config string
	for _, it := range set.Items {
		if it.Key.Resource == "configmaps" {
			config = string(it.Declared)
		}
	}
	for _, want := range []string{`"motd.txt":"hello\n"`, `"settings":"[app]\n"`, `"LEVEL":"info"`} {
		if !strings.Contains(config, want) {
			t.Errorf("no %s in %s", want, config)
		}
	}
	for _, it := range set.Items {
		if name := `"configMapRef":{"name":"prod-web-`; it.Key.Resource == "replicationcontrollers" && !strings.Contains(string(it.Declared), name) {
			t.Errorf("no %s in %s", name, it.Declared)
		}
	}
	if strings.Contains(config, "config.kubernetes.io") {
		t.Errorf("annotations of kustomize's are left: %s", config)
	}
}

// TestPositions: a field is found where a person edits it.
func TestPositions(t *testing.T) {
	set, _, found := load(t, kustomize.NewSource(newSource(base+overlay)))
	if found != "" {
		t.Fatal(found)
	}
	for _, tc := range []struct{ resource, field, want string }{
		{"replicationcontrollers", "spec.template.spec.containers[0].name", "base/web.yaml:13:17"},
		{"replicationcontrollers", "spec.replicas", "prod/replicas.yaml:7:13"},
		{"replicationcontrollers", "spec.template.spec.containers[0].image", "prod/kustomization.yaml:6:13"},
		{"replicationcontrollers", "metadata.namespace", "prod/kustomization.yaml:1:12"},
		{"replicationcontrollers", "metadata.name", "prod/kustomization.yaml:2:13"},
		{"services", "spec.type", "prod/kustomization.yaml:15:15"},
		{"services", "spec.ports[0].port", "base/svc.yaml:9:13"},
		{"configmaps", "data.LEVEL", "base/kustomization.yaml:3:5"},
	} {
		for _, it := range set.Items {
			if it.Key.Resource != tc.resource {
				continue
			}
			if at, _ := it.Position(tc.field); at.String() != tc.want {
				t.Errorf("%s %s is at %s, want %s", tc.resource, tc.field, at, tc.want)
			}
		}
	}
}

func TestFindings(t *testing.T) {
	for _, tc := range []struct{ name, files, want string }{
		{
			"typo in a base", strings.Replace(base, "  replicas: 1", "  replica: 1", 1) + overlay,
			`base/web.yaml:6:3: error[E0104]: unknown field "replica" (ReplicationController shop/prod-web); did you mean "replicas"?`,
		},
		{
			"typo in a patch", base + strings.Replace(overlay, "replicas: 3", "replicas: 3\n  minReady: 1", 1),
			`prod/replicas.yaml:8:3: error[E0104]: unknown field "minReady" (ReplicationController shop/prod-web)`,
		},
		{
			"value that nobody wrote as it is", base + strings.Replace(overlay, "namespace: shop", "namespace: Shop", 1),
			`prod/kustomization.yaml:1:12: error[E0301]: metadata.namespace:`,
		},
		{
			"unknown field", base + "-- prod/kustomization.yaml --\nresource: [../base]\n",
			`prod/kustomization.yaml:1:1: error[E0121]: unknown field "resource" (Kustomization); did you mean "resources"?`,
		},
		{
			"remote base", "-- kustomization.yaml --\nresources:\n  - https://github.com/o/r//base?ref=v1\n",
			`kustomization.yaml:2:5: error[E0122]: "https://github.com/o/r//base?ref=v1" lies outside of the source`,
		},
		{"remote by ssh", "-- kustomization.yaml --\nresources: [\"git@example.org:o/r.git\"]\n", `kustomization.yaml:1:13: error[E0122]:`},
		{"remote without a scheme", "-- kustomization.yaml --\nresources: [GitHub.com/o/r]\n", `kustomization.yaml:1:13: error[E0122]:`},
		{"remote and a directory of that name", "-- kustomization.yaml --\nresources: [git@host.invalid/o/r]\n-- git@host.invalid/o/r/kustomization.yaml --\nnamePrefix: a\n", `kustomization.yaml:1:13: error[E0122]:`},
		{"remote by its host and a directory of that name", "-- kustomization.yaml --\nresources: [github.com/o/r]\n-- github.com/o/r/kustomization.yaml --\nnamePrefix: a\n", `kustomization.yaml:1:13: error[E0122]:`},
		{"remote component", "-- kustomization.yaml --\ncomponents: [\"ssh://host.invalid/o/r\"]\n", `kustomization.yaml:1:14: error[E0122]:`},
		{"remote schema", "-- kustomization.yaml --\nopenapi: {path: \"http://host.invalid/x\"}\n", `kustomization.yaml:1:17: error[E0122]:`},
		{"remote by name of the field", "-- kustomization.yaml --\nResources: [github.com/o/r]\n", `kustomization.yaml:1:13: error[E0122]:`},
		{"remote base of old", "-- kustomization.yaml --\nbases: [\"git::ssh://x/y\"]\n", `kustomization.yaml:1:9: error[E0122]:`},
		{"remote file", "-- kustomization.yaml --\nconfigMapGenerator:\n  - name: a\n    files: [\"x=HTTP://127.0.0.1/x\"]\n", `kustomization.yaml:3:13: error[E0122]:`},
		{"remote patch", "-- kustomization.yaml --\npatchesStrategicMerge: [\"http://127.0.0.1/x\"]\n", `kustomization.yaml:1:25: error[E0122]:`},
		{"out of the source", "-- a/kustomization.yaml --\nresources: [../../etc]\n", `a/kustomization.yaml:1:13: error[E0123]: "../../etc" leads out of the source`},
		{"out by an absolute path", "-- kustomization.yaml --\nconfigMapGenerator: [{name: a, files: [/etc/passwd]}]\n", `kustomization.yaml:1:40: error[E0123]:`},
		{"file above", "-- x.txt --\nx\n-- a/kustomization.yaml --\nconfigMapGenerator: [{name: a, files: [../x.txt]}]\n", `a/kustomization.yaml:1:40: error[E0123]: "../x.txt" does not lie below`},
		{"missing file", "-- kustomization.yaml --\nresources: [wbe.yaml]\n-- web.yaml --\n", `kustomization.yaml:1:13: error[E0124]: there is no file "wbe.yaml" in the source (Kustomization); did you mean "web.yaml"?`},
		{"no kustomization", "-- kustomization.yaml --\nresources: [base]\n-- base/web.yaml --\n", `kustomization.yaml:1:13: error[E0124]: the directory "base" has no kustomization`},
		{"helm", "-- kustomization.yaml --\nhelmCharts: [{name: x, repo: \"https://x\"}]\n", `kustomization.yaml:1:1: error[E0125]:`},
		{"transformer", "-- kustomization.yaml --\ntransformers: [t.yaml]\n-- t.yaml --\n", `kustomization.yaml:1:1: error[E0125]:`},
		{"circle", "-- a/kustomization.yaml --\nresources: [../b]\n-- b/kustomization.yaml --\nresources: [../a]\n", `a/kustomization.yaml:1:1: error[E0121]: cannot be rendered: accumulating resources`},
		{"itself", "-- kustomization.yaml --\nresources: [.]\n", `kustomization.yaml:1:1: error[E0121]: cannot be rendered:`},
		{"two in one directory", "-- kustomization.yaml --\n-- kustomization.yml --\n", `kustomization.yml: error[E0121]: the directory has another kustomization: kustomization.yaml`},
		{"no YAML", "-- kustomization.yaml --\nresources: [\n", `kustomization.yaml:1:1: error[E0121]: the kustomization is no YAML`},
		{"empty", "-- kustomization.yaml --\n", `kustomization.yaml:1:1: error[E0121]: `},
		{
			"two overlays of one name", base + "-- p/kustomization.yaml --\nresources: [../base]\n-- q/kustomization.yaml --\nresources: [../base]\n",
			`error[E0401]: services/default/web is declared twice (Service web); first declared at p/kustomization.yaml`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, _, found := load(t, kustomize.NewSource(newSource(tc.files)))
			if !strings.Contains(found, tc.want) {
				t.Errorf("found:\n%swant:\n%s", found, tc.want)
			}
			if strings.Contains(found, "/source") {
				t.Errorf("a path that nobody knows:\n%s", found)
			}
		})
	}
}

// TestSecrets: nothing that a secret is made of is in a finding.
func TestSecrets(t *testing.T) {
	for name, files := range map[string]string{
		"literal without a key": "-- kustomization.yaml --\nsecretGenerator: [{name: a, literals: [canary]}]\n",
		"missing file beside":   "-- kustomization.yaml --\nsecretGenerator: [{name: a, literals: [a=canary], files: [missing]}]\n",
		"line of a file":        "-- kustomization.yaml --\nsecretGenerator: [{name: a, envs: [x.env]}]\n-- x.env --\na=canary\na=canary2\n",
		"unknown field beside":  "-- kustomization.yaml --\nsecretGenerator: [{name: a, literals: [a=canary], literal: b}]\n",
		"no YAML":               "-- kustomization.yaml --\nsecretGenerator: [{name: a, literals: [a=canary], }}]\n",
		"invalid name":          "-- kustomization.yaml --\nsecretGenerator: [{name: a_b, literals: [a=canary]}]\n",
		"in a base":             "-- a/kustomization.yaml --\nresources: [../b]\n-- b/kustomization.yaml --\nsecretGenerator: [{name: a, envs: [x.env]}]\n-- b/x.env --\na=canary\na=canary2\n",
		"patch":                 "-- kustomization.yaml --\nresources: [s.yaml]\npatches:\n  - patch: |-\n      {kind: Secret, apiVersion: v1, metadata: {name: s}, stringdata: {a: canary}}\n-- s.yaml --\napiVersion: v1\nkind: Secret\nmetadata:\n  name: s\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := kustomize.NewSource(newSource(files))
			snap, err := s.Snapshot(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			_, found := manifests.NewLoader().Load(context.Background(), snap)
			for i := range found {
				found[i].Position.Line = max(found[i].Position.Line, 1)
			}
			manifests.Quote(found, snap)
			var b strings.Builder
			if err := found.Render(&b); err != nil {
				t.Fatal(err)
			}
			if b.Len() == 0 || strings.Contains(b.String(), "canary") {
				t.Errorf("found:\n%s", b.String())
			}
		})
	}
}

// TestRoots: what is included is not rendered by itself, and a component
// never is.
func TestRoots(t *testing.T) {
	files := base + overlay + "-- component/kustomization.yaml --\napiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nnamePrefix: c-\n" +
		"-- Kustomization --\nresources: [prod]\ncomponents: [component]\n"
	set, snap, found := load(t, kustomize.NewSource(newSource(files)))
	if found != "" {
		t.Fatal(found)
	}
	if len(snap.Files) != 1 || snap.Files[0].Path != "Kustomization" {
		t.Errorf("files: %v", snap.Files)
	}
	for _, it := range set.Items {
		if !strings.HasPrefix(it.Key.Name, "c-prod-web") {
			t.Errorf("%s", it.Key)
		}
	}
	if len(set.Items) != 3 {
		t.Errorf("%d objects, want 3", len(set.Items))
	}
}

func TestWithoutKustomization(t *testing.T) {
	s := newSource("-- web.yaml --\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n")
	want, err := s.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	got, err := kustomize.NewSource(s).Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if got.Tree != want.Tree || len(got.Files) != 1 || len(s.reads) != 0 {
		t.Errorf("snapshot %+v, reads %v", got, s.reads)
	}
}

// TestAgain: what has not changed is not read again, and what has is rendered
// again, also where a base or a file that is no manifest changed.
func TestAgain(t *testing.T) {
	inner := newSource(base + overlay)
	s := kustomize.NewSource(inner)
	text := func() string {
		t.Helper()
		snap, err := s.Snapshot(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range snap.Files {
			if f.Path == "prod/kustomization.yaml" {
				data, err := f.Read()
				if err != nil {
					t.Fatal(err)
				}
				return snap.Tree + "\n" + string(data)
			}
		}
		t.Fatal("nothing rendered")
		return ""
	}
	first := text()
	clear(inner.reads)
	if again := text(); again != first || len(inner.reads) != 0 {
		t.Errorf("read again: %v", inner.reads)
	}
	inner.files["other/pod.yaml"] += "# more\n"
	text()
	for name := range inner.reads {
		if !manifests.IsKustomization(name) {
			t.Errorf("%s was read again, and only %s had changed", name, "other/pod.yaml")
		}
	}
	for name, change := range map[string]string{"base/motd.txt": "bye\n", "base/.env": "LEVEL=debug\n", "prod/replicas.yaml": strings.Replace(inner.files["prod/replicas.yaml"], "3", "4", 1)} {
		before := text()
		inner.files[name] = change
		if text() == before {
			t.Errorf("a change of %s makes none", name)
		}
	}
}

// part is a directory of a source.
type part struct {
	*source
	dir string
}

func (p part) Snapshot(ctx context.Context) (manifests.Snapshot, error) {
	inner := newSource("")
	for name, text := range p.files {
		if rest, ok := strings.CutPrefix(name, p.dir+"/"); ok {
			inner.files[rest] = text
		}
	}
	snap, err := inner.Snapshot(ctx)
	snap.Path, snap.Whole = p.dir, p.source.Snapshot
	return snap, err
}

// TestBeside: a source that is part of a repository may be rendered from what
// lies beside it, and from nothing that lies beside the repository.
func TestBeside(t *testing.T) {
	inner := newSource(base + overlay + "-- broken/kustomization.yaml --\nresource: []\n-- kustomization.yaml --\nresources: [prod]\n")
	s := kustomize.NewSource(part{inner, "prod"})
	set, snap, found := load(t, s)
	if found != "" {
		t.Fatal(found)
	}
	if len(set.Items) != 3 || len(snap.Files) != 1 || snap.Files[0].Path != "kustomization.yaml" {
		t.Errorf("%d objects of %v", len(set.Items), snap.Files)
	}
	if at, _ := set.Items[1].Position("spec.template.spec.containers[0].name"); at.String() != "../base/web.yaml:13:17" {
		t.Errorf("the name is at %s", at)
	}
	inner.files["base/web.yaml"] = strings.Replace(inner.files["base/web.yaml"], "image: web:1", "imag: web:1", 1)
	_, again, found := load(t, s)
	if again.Tree == snap.Tree || !strings.HasPrefix(found, `../base/web.yaml:14:11: error[E0104]: unknown field "imag"`) {
		t.Errorf("found after a change beside it: %s", found)
	}
	inner.files["prod/kustomization.yaml"] = "resources: [../../base]\n"
	if _, _, found = load(t, s); !strings.Contains(found, `kustomization.yaml:1:13: error[E0123]: "../../base" leads out of the source`) {
		t.Errorf("found: %s", found)
	}
}

// TestUnreadable: what cannot be read is unknown, not empty.
func TestUnreadable(t *testing.T) {
	inner := newSource(base + overlay)
	inner.err = manifests.Unavailable(errors.New("disk gone"))
	_, err := kustomize.NewSource(inner).Snapshot(context.Background())
	if !manifests.IsUnavailable(err) {
		t.Errorf("error %v, want one that may pass", err)
	}
}

func TestIsKustomization(t *testing.T) {
	for name, want := range map[string]bool{"kustomization.yaml": true, "a/kustomization.yml": true, "a/Kustomization": true, "a/kustomization.json": false, "Kustomization/x.yaml": false} {
		if got := manifests.IsKustomization(name); got != want {
			t.Errorf("%s: %v", path.Clean(name), got)
		}
	}
}
