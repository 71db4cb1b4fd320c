package house

import (
	"fmt"
	"go/ast"
	"slices"
	"strings"
)

// A pattern is a package's path within the project, or with "/..." that
// package and all below it; "..." is every package.
type pattern string

func (p pattern) matches(pkg string) bool {
	if p == "..." {
		return true
	}
	dir, below := strings.CutSuffix(string(p), "/...")
	return pkg == dir || below && strings.HasPrefix(pkg, dir+"/")
}

func anyMatches(patterns []pattern, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p pattern) bool { return p.matches(pkg) })
}

// wall keeps an outside dependency in the packages that translate it into our
// own types. Tests lists packages of which only the tests may import it too.
type wall struct {
	outside string // import path, with all below it
	inside  []pattern
	tests   []pattern
}

// observers are the packages that look at a whole machine from outside, as a
// person would, and therefore use whatever shows it.
var observers = []pattern{"cmd/e2e/...", "cmd/bench/..."}

var walls = []wall{
	// cmd/internal/backend turns the --etcd flags into a client.
	{outside: "go.etcd.io", inside: []pattern{"schema/registry/etcd/...", "cmd/internal/backend"}},
	{outside: "go.uber.org/zap", inside: []pattern{"schema/registry/etcd/...", "cmd/internal/backend"}},
	{outside: "github.com/containerd", inside: []pattern{"nodeagent/runtime/containerd"}},
	{outside: "github.com/opencontainers", inside: []pattern{"nodeagent/runtime/containerd"}},
	{outside: "github.com/sirupsen/logrus", inside: []pattern{"nodeagent/runtime/containerd"}},
	{outside: "google.golang.org/grpc", inside: []pattern{"nodeagent/runtime/containerd", "schema/registry/etcd/..."}, tests: []pattern{"nodeagent/probe"}},
	{outside: "github.com/go-git", inside: []pattern{"manifests/git"}},
	{outside: "github.com/fsnotify", inside: []pattern{"manifests/watch"}},
	{outside: "sigs.k8s.io/kustomize", inside: []pattern{"manifests/kustomize"}},
	{outside: "go.yaml.in/yaml", inside: []pattern{"manifests", "manifests/block"}},
	{outside: "github.com/vishvananda", inside: []pattern{
		"nodeagent/network", "proxy/dns", "proxy/nftables", "proxy/userspace", "proxy/thread", "proxy/proxytest",
	}},
	{outside: "github.com/mdlayher", inside: []pattern{"nodeagent/network", "proxy/nftables"}},
	{outside: "github.com/google/nftables", inside: []pattern{"nodeagent/network", "proxy/nftables"}},
	{outside: "github.com/miekg/dns", inside: []pattern{"proxy/dns"}},
	{outside: "github.com/google/go-containerregistry", inside: []pattern{"testdata/images", "testdata/registry"}, tests: []pattern{"nodeagent/runtime/containerd", "cmd/internal/conformance"}},
	{outside: "github.com/spf13/cobra", inside: []pattern{"cmd/..."}},
	{outside: "k8s.io/kubernetes", inside: []pattern{"schema/validation", "schema/apiserver/..."}},
	{outside: "k8s.io/apiserver", inside: []pattern{"schema/apiserver/..."}},
	{outside: "k8s.io/client-go", inside: []pattern{"schema/apiserver/...", "nodeagent/server/servertest"}, tests: []pattern{"cmd/internal/node", "nodeagent/server"}},
	{outside: "k8s.io/cri-streaming", inside: []pattern{"nodeagent/server"}, tests: []pattern{"schema/apiserver"}},
	{outside: "k8s.io/kubelet", inside: []pattern{"nodeagent/server", "nodeagent/stats", "schema/apiserver/..."}},
	{outside: "github.com/rogpeppe/go-internal", tests: []pattern{"..."}},
	{outside: "github.com/google/go-cmp", inside: []pattern{"schema/registry/registrytest"}, tests: []pattern{"..."}},
	{outside: "pgregory.net/rapid", tests: []pattern{"..."}},
	{outside: "go.uber.org/goleak", tests: []pattern{"..."}},
}

// room says which of our own packages a package may import. The first room
// that matches counts.
type room struct {
	pkg pattern
	may []pattern
}

// rooms are the walls between our own packages: cmd → {reconciler →
// manifests, nodeagent, proxy} → schema/registry → schema. reconciler,
// nodeagent and proxy meet in etcd and never in code.
var rooms = []room{
	{"schema", nil},
	{"schema/support", nil},
	{"schema/validation", []pattern{"schema"}},
	{"schema/registry", []pattern{"schema"}},
	{"schema/registry/...", []pattern{"schema", "schema/registry/..."}},
	{"schema/apiserver/...", []pattern{"schema/..."}},

	{"manifests", []pattern{"manifests/block", "schema", "schema/support", "schema/validation"}},
	{"manifests/block", nil},
	{"manifests/watch", nil},
	{"manifests/check", []pattern{"manifests", "schema"}},
	{"manifests/...", []pattern{"manifests", "manifests/watch"}},

	{"reconciler", []pattern{"manifests", "schema", "schema/registry", "schema/validation"}},
	// What a plan does to what runs is placed by the scheduler's pure core.
	{"reconciler/effects", []pattern{"manifests", "reconciler", "reconciler/scheduler", "schema"}},
	{"reconciler/report", []pattern{"manifests", "reconciler", "schema"}},
	// Which volume a claim gets is decided for the binder and the scheduler.
	{"reconciler/volumes", nil},
	{"reconciler/scheduler", []pattern{"reconciler/volumes", "schema", "schema/registry"}},
	{"reconciler/controller/binder", []pattern{"reconciler/controller", "reconciler/volumes", "schema", "schema/registry"}},
	{"reconciler/status", []pattern{"reconciler", "schema", "schema/registry"}},
	{"reconciler/why", []pattern{"reconciler", "reconciler/scheduler", "reconciler/status", "schema", "schema/registry"}},
	{"reconciler/controller", []pattern{"schema", "schema/registry"}},
	// The manager is what starts the others, and the only one that knows them.
	{"reconciler/controller/manager", []pattern{"reconciler/controller/...", "reconciler/scheduler", "schema", "schema/registry"}},
	{"reconciler/controller/controllertest", []pattern{"reconciler/controller", "schema", "schema/registry/..."}},
	{"reconciler/...", []pattern{"reconciler/controller", "schema", "schema/registry"}},

	{"nodeagent", []pattern{
		"nodeagent/images", "nodeagent/logs", "nodeagent/network", "nodeagent/pressure", "nodeagent/probe", "nodeagent/runtime", "nodeagent/server", "nodeagent/stats", "nodeagent/volume", "schema", "schema/registry",
	}},
	{"nodeagent/runtime/...", []pattern{"nodeagent/runtime"}},
	{"nodeagent/server", []pattern{"nodeagent/logs", "nodeagent/runtime"}},
	{"nodeagent/stats", []pattern{"nodeagent/runtime"}},
	{"nodeagent/checkpoint", []pattern{"schema/registry"}},
	{"nodeagent/...", nil},

	{"proxy", []pattern{"schema", "schema/registry"}},
	{"proxy/thread", nil},
	{"proxy/proxytest", []pattern{"proxy", "proxy/thread", "testdata/requires"}},
	{"proxy/...", []pattern{"proxy", "proxy/thread"}},

	{"testdata/images/...", []pattern{"testdata/images"}},
	{"testdata/...", nil},

	{"cmd/...", []pattern{"..."}},
}

// inTests are what any test may import beside what its package may: fakes,
// suites and stores in memory, the images that it runs and a registry that has
// them, and what says that this machine cannot run it.
var inTests = []pattern{
	"schema/...", "manifests/manifeststest", "nodeagent/runtime/fake", "nodeagent/server/servertest", "proxy/proxytest", "reconciler/controller/controllertest", "testdata/images", "testdata/registry", "testdata/requires",
}

// Imports finds imports that go through a wall. A package that no room
// matches is one: say in the table where it belongs.
func Imports(t *Tree) []Violation {
	var out []Violation
	unknown := map[string]bool{}
	for _, f := range t.goFiles() {
		may, known := mayImport(f)
		if !known && !unknown[f.Dir()] {
			unknown[f.Dir()] = true
			out = append(out, Violation{f.Dir(), "no room in walls.go: say there what it may import"})
		}
		for _, spec := range f.Syntax.Imports {
			out = append(out, t.breaks(f, spec, may)...)
		}
	}
	return out
}

func mayImport(f File) (may []pattern, known bool) {
	i := slices.IndexFunc(rooms, func(r room) bool { return r.pkg.matches(f.Dir()) })
	if i < 0 {
		return nil, false
	}
	may = append(may, rooms[i].may...)
	if f.IsTest() {
		may = append(may, inTests...)
		may = append(may, pattern(f.Dir())) // its own package, from outside
	}
	return may, true
}

func (t *Tree) breaks(f File, spec *ast.ImportSpec, may []pattern) []Violation {
	target := importPath(spec)
	if own, ok := strings.CutPrefix(target, module+"/"); ok {
		if !anyMatches(may, own) {
			return []Violation{{t.at(spec), fmt.Sprintf("%s may not import %s", f.Dir(), own)}}
		}
		return nil
	}
	for _, w := range walls {
		if pattern(w.outside+"/...").matches(target) && !w.lets(f) {
			return []Violation{{t.at(spec), fmt.Sprintf("%s is imported only by %s", w.outside, w.who())}}
		}
	}
	return nil
}

func (w wall) lets(f File) bool {
	return anyMatches(w.inside, f.Dir()) || anyMatches(observers, f.Dir()) || f.IsTest() && anyMatches(w.tests, f.Dir())
}

func (w wall) who() string {
	var names []string
	for _, p := range w.inside {
		names = append(names, string(p))
	}
	for _, p := range w.tests {
		if p == "..." {
			names = append(names, "tests")
			continue
		}
		names = append(names, "tests of "+string(p))
	}
	return strings.Join(names, ", ")
}

// program is what a program may not be built from, so that it stays small.
type program struct {
	pkg string
	not []string // import paths, with all below them
}

var programs = []program{
	// Static pods have Kubernetes' own defaults and validation: 4 MB.
	{"cmd/nodeagent", []string{"sigs.k8s.io/kustomize", "k8s.io/client-go/kubernetes", "k8s.io/apiserver/pkg/server", "github.com/go-git", "go.etcd.io/etcd/server", module + "/proxy", module + "/reconciler", module + "/schema/apiserver"}},
	{"cmd/proxy", []string{"sigs.k8s.io/kustomize", "k8s.io/kubernetes", "k8s.io/client-go", "k8s.io/apiserver", "github.com/go-git", "go.etcd.io/etcd/server", "github.com/containerd/containerd", module + "/nodeagent", module + "/reconciler", module + "/schema/validation"}},
}

// forbidden are those of a program's dependencies that it may not have.
func (p program) forbidden(deps []string) []Violation {
	var out []Violation
	for _, dep := range deps {
		for _, not := range p.not {
			if pattern(not + "/...").matches(dep) {
				out = append(out, Violation{p.pkg, "is built from " + dep})
			}
		}
	}
	return out
}
