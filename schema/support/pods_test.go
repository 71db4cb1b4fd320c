package support

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// podTests say which test holds the agent to a field of a pod's spec, and to
// all fields that begin with it. Those of the conformance suite run on a real
// containerd.
var podTests = []struct{ field, dir, test string }{
	{"restartPolicy", "cmd/internal/conformance", "restarts"},
	{"initContainers[]", "cmd/internal/conformance", "initAndSidecars"},
	{"ephemeralContainers[]", "cmd/internal/conformance", "ephemeral"},
	{"terminationGracePeriodSeconds", "cmd/internal/conformance", "hooksAndGrace"},
	{"activeDeadlineSeconds", "cmd/internal/conformance", "deadline"},
	{"readinessGates", "cmd/internal/conformance", "exactStatus"},
	{"resources", "nodeagent", "TestPodResources"},
	{"nodeSelector", "reconciler/scheduler", "TestSchedule"},
	{"affinity.nodeAffinity", "reconciler/scheduler", "TestNodeAffinity"},
	{"affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution", "reconciler/scheduler", "TestPreferredNodes"},
	{"affinity.podAffinity", "reconciler/scheduler", "TestPodAffinity"},
	{"affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution", "reconciler/scheduler", "TestPreferredPeers"},
	{"affinity.podAntiAffinity", "reconciler/scheduler", "TestPodAffinity"},
	{"affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution", "reconciler/scheduler", "TestPreferredPeers"},
	{"tolerations", "reconciler/scheduler", "TestTaints"},
	{"tolerations[].tolerationSeconds", "reconciler/controller/eviction", "TestTolerationSeconds"},
	{"nodeName", "reconciler/scheduler", "TestSchedule"},
	{"schedulerName", "schema/support", "TestEveryFieldIsSupportedOrRefused"},
	{"priority", "schema/support", "TestEveryFieldIsSupportedOrRefused"},
	{"preemptionPolicy", "schema/support", "TestEveryFieldIsSupportedOrRefused"},
	{"os", "schema/support", "TestEveryFieldIsSupportedOrRefused"},
	{"imagePullSecrets", "cmd/internal/conformance", "pullSecrets"},
	{"hostNetwork", "cmd/internal/conformance", "hostNamespaces"},
	{"hostPID", "cmd/internal/conformance", "hostNamespaces"},
	{"hostIPC", "cmd/internal/conformance", "hostNamespaces"},
	{"hostUsers", "cmd/internal/conformance", "ownUsers"},
	{"shareProcessNamespace", "cmd/internal/conformance", "sharedNamespaces"},
	{"hostname", "cmd/internal/conformance", "names"},
	{"hostnameOverride", "cmd/internal/conformance", "names"},
	{"setHostnameAsFQDN", "cmd/internal/conformance", "names"},
	{"subdomain", "cmd/internal/conformance", "names"},
	{"hostAliases", "cmd/internal/conformance", "names"},
	{"dnsPolicy", "nodeagent/volume", "TestPodResolv"},
	{"dnsConfig", "cmd/internal/conformance", "names"},
	{"enableServiceLinks", "cmd/internal/conformance", "environment"},
	{"automountServiceAccountToken", "schema/registry", "TestServiceAccounts"},
	{"serviceAccount", "cmd/internal/conformance", "volumes"},
	{"securityContext", "cmd/internal/conformance", "security"},
	{"securityContext.fsGroup", "cmd/internal/conformance", "volumes"},
	{"securityContext.fsGroupChangePolicy", "cmd/internal/conformance", "claims"},
	{"securityContext.appArmorProfile", "nodeagent", "TestAppArmor"},
	{"securityContext.seLinuxOptions", "nodeagent/runtime/containerd", "TestSELinuxLabels"},
	{"securityContext.seLinuxChangePolicy", "nodeagent", "TestKeepLabels"},
	{"securityContext.runAsNonRoot", "cmd/internal/conformance", "refused"},

	{"volumes[]", "cmd/internal/conformance", "volumes"},
	{"volumes[].hostPath.type", "nodeagent/volume", "TestHostPath"},
	{"volumes[].emptyDir.sizeLimit", "cmd/internal/conformance", "bounds"},
	{"volumes[].persistentVolumeClaim", "cmd/internal/conformance", "claims"},
	{"volumes[].persistentVolumeClaim.readOnly", "cmd/internal/conformance", "bounds"},
	{"volumes[].ephemeral", "reconciler/controller/ephemeral", "TestEphemeralClaims"},
	{"volumes[].image", "cmd/internal/conformance", "imageVolumes"},
	{"volumes[].nfs", "nodeagent/volume", "TestNFS"},
	{"volumes[].configMap.optional", "nodeagent/volume", "TestMissingReferences"},
	{"volumes[].secret", "nodeagent/volume", "TestSecretIsInMemory"},

	{"containers[]", "cmd/internal/conformance", "environment"},
	{"containers[].workingDir", "cmd/internal/conformance", "bounds"},
	{"containers[].imagePullPolicy", "cmd/internal/conformance", "pullPolicies"},
	{"containers[].ports", "nodeagent/network", "TestHostPorts"},
	{"containers[].ports[].hostPort", "cmd/internal/conformance", "hostPorts"},
	{"containers[].ports[].containerPort", "cmd/internal/conformance", "hostPorts"},
	{"containers[].resources", "cmd/internal/conformance", "resources"},
	{"containers[].resources.limits.ephemeral-storage", "cmd/internal/conformance", "diskLimits"},
	{"containers[].resizePolicy", "cmd/internal/conformance", "inPlace"},
	{"containers[].volumeMounts", "cmd/internal/conformance", "volumes"},
	{"containers[].volumeMounts[].mountPropagation", "nodeagent/runtime/containerd", "TestMountPropagation"},
	{"containers[].volumeMounts[].recursiveReadOnly", "nodeagent/runtime/containerd", "TestConfinement"},
	{"containers[].livenessProbe", "cmd/internal/conformance", "liveness"},
	{"containers[].startupProbe", "cmd/internal/conformance", "liveness"},
	{"containers[].readinessProbe", "cmd/internal/conformance", "probes"},
	{"containers[].livenessProbe.initialDelaySeconds", "cmd/internal/conformance", "probeFields"},
	{"containers[].livenessProbe.timeoutSeconds", "cmd/internal/conformance", "probeFields"},
	{"containers[].livenessProbe.successThreshold", "cmd/internal/conformance", "probeFields"},
	{"containers[].livenessProbe.failureThreshold", "cmd/internal/conformance", "probeFields"},
	{"containers[].livenessProbe.httpGet.host", "nodeagent/probe", "TestResolve"},
	{"containers[].readinessProbe.initialDelaySeconds", "cmd/internal/conformance", "probeFields"},
	{"containers[].readinessProbe.timeoutSeconds", "cmd/internal/conformance", "probeFields"},
	{"containers[].readinessProbe.successThreshold", "cmd/internal/conformance", "probeFields"},
	{"containers[].readinessProbe.failureThreshold", "cmd/internal/conformance", "probeFields"},
	{"containers[].readinessProbe.httpGet.host", "nodeagent/probe", "TestResolve"},
	{"containers[].startupProbe.initialDelaySeconds", "cmd/internal/conformance", "probeFields"},
	{"containers[].startupProbe.timeoutSeconds", "cmd/internal/conformance", "probeFields"},
	{"containers[].startupProbe.successThreshold", "cmd/internal/conformance", "probeFields"},
	{"containers[].startupProbe.failureThreshold", "cmd/internal/conformance", "probeFields"},
	{"containers[].startupProbe.httpGet.host", "nodeagent/probe", "TestResolve"},
	{"containers[].livenessProbe.httpGet", "cmd/internal/conformance", "probeFields"},
	{"containers[].startupProbe.httpGet", "nodeagent/probe", "TestHTTP"},
	{"containers[].livenessProbe.tcpSocket", "cmd/internal/conformance", "probeFields"},
	{"containers[].startupProbe.tcpSocket", "cmd/internal/conformance", "hookKinds"},
	{"containers[].readinessProbe.httpGet.scheme", "cmd/internal/conformance", "probeFields"},
	{"containers[].readinessProbe.tcpSocket.host", "cmd/internal/conformance", "probeFields"},
	{"containers[].livenessProbe.grpc", "cmd/internal/conformance", "probeFields"},
	{"containers[].startupProbe.grpc", "nodeagent/probe", "TestGRPC"},
	{"containers[].lifecycle", "cmd/internal/conformance", "hooksAndGrace"},
	{"containers[].lifecycle.postStart.httpGet", "cmd/internal/conformance", "hookKinds"},
	{"containers[].lifecycle.postStart.sleep", "cmd/internal/conformance", "hookKinds"},
	{"containers[].lifecycle.preStop.httpGet", "cmd/internal/conformance", "hookKinds"},
	{"containers[].lifecycle.preStop.sleep", "cmd/internal/conformance", "hookKinds"},
	{"containers[].terminationMessagePath", "cmd/internal/conformance", "messages"},
	{"containers[].terminationMessagePolicy", "cmd/internal/conformance", "messages"},
	{"containers[].stdin", "nodeagent/server", "TestAttach"},
	{"containers[].stdinOnce", "nodeagent/server", "TestAttach"},
	{"containers[].tty", "nodeagent/server", "TestExec"},
	{"containers[].securityContext", "cmd/internal/conformance", "security"},
	{"containers[].securityContext.procMount", "cmd/internal/conformance", "unmaskedProc"},
	{"containers[].securityContext.appArmorProfile", "nodeagent", "TestAppArmor"},
	{"containers[].securityContext.seLinuxOptions", "nodeagent/runtime/containerd", "TestSELinuxLabels"},
	{"containers[].lifecycle.stopSignal", "cmd/internal/conformance", "stopSignals"},
	{"containers[].restartPolicy", "cmd/internal/conformance", "restarts"},
	{"containers[].restartPolicyRules", "cmd/internal/conformance", "restarts"},
	{"containers[].restartPolicyRules[].action", "cmd/internal/conformance", "restartAll"},
}

const podIntro = `# Fields of a pod

Every field of a pod's spec that Kubernetes knows, whether Evenkeel acts on it,
and the test that holds it to that. A field that is refused is refused by name
(E0201), in plans, in ` + "`reconcile --dry-run`" + ` and by the API alike; so is what is
below it. Init containers are as containers. This page is made from
schema/support by ` + "`make docs`" + `.

| field | supported | test |
|---|---|---|
`

// TestPodDocument holds docs/pods.md to the table, and every field that is
// supported to a test that there is.
func TestPodDocument(t *testing.T) {
	d := podDocument{t: t, there: map[string]map[string]bool{}}
	d.fields(reflect.TypeFor[corev1.PodSpec](), "", For("pods").Child("spec"))
	const file = "../../docs/pods.md"
	text := podIntro + d.rows.String()
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(text, string(got)); diff != "" {
		t.Errorf("%s is not current: run `make docs` (-want +got):\n%s", file, diff)
	}
}

type podDocument struct {
	t     *testing.T
	rows  strings.Builder
	there map[string]map[string]bool // by directory: the functions of its tests
}

func (d *podDocument) fields(typ reflect.Type, path string, f *Field) {
	for sf := range typ.Fields() {
		name, _, _ := strings.Cut(sf.Tag.Get("json"), ",")
		switch name {
		case "-":
		case "":
			d.fields(sf.Type, path, f)
		default:
			d.field(sf.Type, strings.TrimPrefix(path+"."+name, "."), f.Child(name))
		}
	}
}

func (d *podDocument) field(typ reflect.Type, path string, f *Field) {
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	_, decodesItself := reflect.New(typ).Interface().(interface{ UnmarshalJSON([]byte) error })
	switch {
	case Instead(path) != "":
		d.row(path+"[]", nil, "by `kubectl debug` alone, else as `containers[]`")
	case f == nil:
		fmt.Fprintf(&d.rows, "| `%s` | refused | |\n", path)
	case path == "initContainers":
		d.row(path+"[]", nil, "as `containers[]`")
	case f.whole || decodesItself:
		d.row(path, f, "")
	case typ.Kind() == reflect.Struct:
		d.fields(typ, path, f)
	case typ.Kind() == reflect.Slice:
		d.field(typ.Elem(), path+listItem, f.Item())
	case typ.Kind() == reflect.Map && f.children[anyKey] == nil:
		for _, name := range []string{"cpu", "memory", "ephemeral-storage"} {
			if c := f.children[name]; c != nil {
				d.row(path+"."+name, c, "")
			}
		}
		fmt.Fprintf(&d.rows, "| `%s.*` | others refused | |\n", path)
	default:
		d.row(path, f, "")
	}
}

func (d *podDocument) row(path string, f *Field, how string) {
	if how == "" {
		how = "yes"
		if values := f.Values(); len(values) > 0 {
			how = "only `" + strings.Join(values, "`, `") + "`"
		} else if f.noIPv6 {
			how = "IPv4 only"
		}
	}
	fmt.Fprintf(&d.rows, "| `%s` | %s | %s |\n", path, how, d.testOf(path))
}

// testOf is the test of the longest beginning of a path.
func (d *podDocument) testOf(path string) string {
	best, length := "", -1
	for _, p := range podTests {
		rest, begins := strings.CutPrefix(path, p.field)
		if begins && len(p.field) > length && (rest == "" || strings.ContainsRune(".[N", rune(rest[0]))) {
			best, length = fmt.Sprintf("%s: `%s`", p.dir, p.test), len(p.field)
			if !d.has(p.dir, p.test) {
				d.t.Errorf("%s: there is no test %s in %s", path, p.test, p.dir)
			}
		}
	}
	if best == "" {
		d.t.Errorf("%s is supported, and no test is named for it", path)
	}
	return best
}

// has reports whether a directory's tests have a function.
func (d *podDocument) has(dir, name string) bool {
	if d.there[dir] == nil {
		d.there[dir] = map[string]bool{}
		files, _ := fs.Glob(os.DirFS("../.."), dir+"/*_test.go")
		for _, file := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join("../..", file), nil, parser.SkipObjectResolution)
			if err != nil {
				d.t.Fatal(err)
			}
			for _, decl := range parsed.Decls {
				if f, ok := decl.(*ast.FuncDecl); ok {
					d.there[dir][f.Name.Name] = true
				}
			}
		}
	}
	return d.there[dir][name]
}
