package apiserver_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/apiserver"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/testdata/requires"
)

// kubectlPath is a real kubectl: $KUBECTL, the one on PATH, or one built from
// its module.
var kubectlPath = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("KUBECTL"); path != "" {
		return path, nil
	}
	if path, err := exec.LookPath("kubectl"); err == nil {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "kubectl")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "kubectl")
	out, err := exec.Command("go", "build", "-o", path, "k8s.io/kubernetes/cmd/kubectl").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build kubectl: %w: %s", err, out)
	}
	built = dir
	return path, nil
})

var built string // directory of a kubectl that was built, to be removed

func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(code)
}

// kubectl runs a command line against the server and returns what it printed.
func (w *world) kubectl(stdin, line string) (string, error) {
	w.t.Helper()
	path, err := kubectlPath()
	if err != nil {
		requires.Unmet(w.t, "no kubectl: "+err.Error())
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	home := w.t.TempDir()
	args := append([]string{"--server", w.config.Host, "--insecure-skip-tls-verify", "--token", "none"}, strings.Fields(line)...)
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "HOME="+home, "KUBECONFIG="+filepath.Join(home, "none"))
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

const twoObjects = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, labels: {app: web}}
data: {colour: blue}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  containers:
  - {name: web, image: "example.org/web:1", ports: [{containerPort: 80}]}
`

// TestKubectl drives a real kubectl through the life of a few objects.
func TestKubectl(t *testing.T) {
	w := inMemory(t, func(c *apiserver.Config) {
		c.Unmirrored = []*schema.Kind{schema.Events}
		c.Token = func(_ context.Context, account *corev1.ServiceAccount, _ *authenticationv1.TokenRequest) (authenticationv1.TokenRequestStatus, error) {
			return authenticationv1.TokenRequestStatus{Token: "token-of-" + account.Namespace + "/" + account.Name}, nil
		}
	})
	w.must(w.regs.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "builder", Namespace: "default"}}))
	steps := []step{
		{"get --raw /version", "", `"gitVersion": "v1.37.2+evenkeel"`},
		{"create -f -", twoObjects, "configmap/settings created\npod/web created"},
		{"get pods", "", "NAME   READY   STATUS    RESTARTS   AGE\nweb    0/1     Pending   0"},
		{"get pods -o wide", "", "NOMINATED NODE   READINESS GATES\nweb"},
		{"get cm,po -l app=web -o name", "", "configmap/settings\npod/web"},
		{"get pods --field-selector status.phase=Running", "", "No resources found in default namespace."},
		{"get ns", "", "default   Active"},
		{"label pod web tier=front", "", "pod/web labeled"},
		{"annotate cm settings why=because", "", "configmap/settings annotated"},
		{"patch cm settings --type merge -p {\"data\":{\"colour\":\"red\"}}", "", "configmap/settings patched"},
		{"patch cm settings --type json -p [{\"op\":\"add\",\"path\":\"/data/size\",\"value\":\"big\"}]", "", "configmap/settings patched"},
		{"patch pod web -p {\"spec\":{\"activeDeadlineSeconds\":60}}", "", "pod/web patched"},
		{"get cm settings -o jsonpath={.data}", "", `{"colour":"red","size":"big"}`},
		{"set image pod/web web=example.org/web:2", "", "pod/web image updated"},
		{"apply --server-side --force-conflicts -f -", twoObjects, "configmap/settings serverside-applied\npod/web serverside-applied"},
		{"apply -f -", twoObjects, "pod/web configured"},
		{"apply -f -", twoObjects, "configmap/settings unchanged\npod/web unchanged"},
		{"diff -f -", twoObjects, ""},
		{"describe pod web", "", "Image:        example.org/web:1"},
		{"explain pod.spec.containers.image", "", "FIELD: image <string>"},
		{"api-resources", "", "replicationcontrollers"},
		{"auth can-i create pods", "", "yes"},
		{"auth whoami", "", "Username    tester"},
		{"create token builder", "", "token-of-default/builder"},
		{"get events", "", "No resources found in default namespace."},
		{"get --raw /readyz", "", "ok"},
		{"get --raw /openapi/v2", "", `"io.k8s.api.core.v1.Pod":`},
		{"get --raw /metrics", "", "apiserver_request_total"},
		{"delete pod web --dry-run=server", "", "(server dry run)"},
		{"delete pod web", "", `pod "web" deleted`},
		{"get pod web --ignore-not-found", "", ""},
		{"delete cm --all", "", `configmap "settings" deleted`},
	}
	w.kubectlSteps(steps)
}

// TestKubectlNodes drives a real kubectl through what concerns nodes, services
// and controllers.
func TestKubectlNodes(t *testing.T) {
	w := inMemory(t)
	for _, kind := range []*schema.Kind{schema.Nodes, schema.Services, schema.ReplicationControllers, schema.Secrets, schema.EndpointSlices} {
		if _, err := w.client(kind).Create(t.Context(), sample(t, kind, "one"), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	created, err := w.regs.Create(t.Context(), pod("web"))
	w.must(created, err)
	w.must(w.regs.Bind(t.Context(), registry.Binding{Pod: created.(*corev1.Pod), Node: "one"}))
	w.kubectlSteps([]step{
		{"get nodes", "", "NAME   STATUS     ROLES    AGE"},
		{"get all", "", "replicationcontroller/one"},
		{"get secrets,endpointslices", "", "secret/one"},
		{"describe node one", "", "Non-terminated Pods:"},
		{"describe ns default", "", "Status:       Active"},
		{"describe svc one", "", "Selector:"},
		{"describe rc one", "", "Replicas:"},
		{"describe secret one", "", "a:  1 bytes"},
		{"cordon one", "", "node/one cordoned"},
		{"get nodes", "", "SchedulingDisabled"},
		{"drain one --force --timeout=30s --dry-run=server", "", "node/one drained (server dry run)"},
		{"uncordon one", "", "node/one uncordoned"},
		{"taint node one a=b:NoSchedule", "", "node/one tainted"},
		{"events", "", "No events found in default namespace."},
		{"get pods -A --sort-by=.metadata.name --show-labels", "", "app=web"},
		{"wait pod/web --for=jsonpath={.spec.nodeName}=one --timeout=30s", "", "pod/web condition met"},
		{"expose rc one --port=80 --name=two", "", "service/two exposed"},
		{"create configmap made --from-literal=a=b", "", "configmap/made created"},
		{"delete rc one --cascade=orphan --wait=false", "", "deleted"},
		{"delete pod web --grace-period=0 --force", "", "force deleted"},
	})
}

type step = struct{ line, stdin, want string }

// kubectlSteps runs command lines, one after the other; an empty want is for
// one that prints nothing.
func (w *world) kubectlSteps(steps []step) {
	t := w.t
	t.Helper()
	for _, step := range steps {
		out, err := w.kubectl(step.stdin, step.line)
		if err != nil {
			t.Errorf("kubectl %s: %v\n%s", step.line, err, out)
			continue
		}
		if !strings.Contains(out, step.want) || step.want == "" && strings.TrimSpace(out) != "" {
			t.Errorf("kubectl %s: want %q in\n%s", step.line, step.want, out)
		}
	}
}
