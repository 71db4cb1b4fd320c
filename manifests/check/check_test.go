package check

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema"
)

// snapshot makes a snapshot of files given as path, content, path, content, …
func snapshot(source string, files ...string) manifests.Snapshot {
	s := manifests.Snapshot{Source: source, Location: source, Revision: "r"}
	for i := 0; i < len(files); i += 2 {
		content := []byte(files[i+1])
		hash := sha256.Sum256(content)
		s.Files = append(s.Files, manifests.File{Path: files[i], Hash: hex.EncodeToString(hash[:]), Read: func() ([]byte, error) { return content, nil }})
	}
	return s
}

func load(t testing.TB, snaps ...manifests.Snapshot) []*manifests.Set {
	t.Helper()
	sets, found := manifests.NewLoader().Load(context.Background(), snaps...)
	if found.HasErrors() {
		t.Fatalf("the manifests do not load: %v", found)
	}
	return sets
}

// node has two cores and 4 GiB.
func node(name string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"disk": "ssd"}},
		Status:     corev1.NodeStatus{Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("4Gi")}},
	}
}

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: "default"}
}

const (
	podYAML = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {app: web, tier: front}}\nspec:\n" +
		"  containers:\n  - {name: web, image: w, ports: [{name: http, containerPort: 80}, {name: dns, containerPort: 53, protocol: UDP}]}\n---\n"
	serviceYAML = "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\nspec:\n"
	settings    = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {color: blue}\n---\n"
	head        = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n"
)

func webLabelled(labels string) string {
	return strings.Replace(podYAML, "app: web, tier: front", labels, 1)
}

func TestCheck(t *testing.T) {
	known := Cluster{Known: true}
	one, two := []*corev1.Node{node("a")}, []*corev1.Node{node("a"), node("b")}
	rc := "apiVersion: v1\nkind: ReplicationController\nmetadata: {name: web}\nspec:\n  replicas: %d\n  selector: {app: web}\n  template:\n    metadata: {labels: {app: web}}\n    spec:\n      containers: [{name: a, image: b, ports: [{containerPort: 80, hostPort: 80}]}]\n"
	for _, tc := range []struct {
		name, text string
		in         Cluster
		want       []string // position, code, message; suggestion
	}{
		{"selects", podYAML + serviceYAML + "  selector: {app: web}\n  ports: [{port: 80, targetPort: http}]\n", Cluster{}, nil},
		{"no pods at all", serviceYAML + "  selector: {app: web}\n  ports: [{port: 80}]\n", Cluster{}, []string{"6:19 W0601 the service selects nothing: no pod declared in namespace default has the label app=web; "}},
		{"value", podYAML + serviceYAML + "  selector: {app: wbe}\n  ports: [{port: 80}]\n", known, []string{`13:19 W0601 the service selects nothing: no pod in namespace default, declared or in the cluster, has the label app=wbe; did you mean "web"?`}},
		{"key", podYAML + serviceYAML + "  selector: {ap: web}\n  ports: [{port: 80}]\n", Cluster{}, []string{`13:18 W0601 the service selects nothing: no pod declared in namespace default has the label ap=web; did you mean "app"?`}},
		{"other value", podYAML + serviceYAML + "  selector: {tier: backend}\n  ports: [{port: 80}]\n", Cluster{}, []string{`13:20 W0601 the service selects nothing: no pod declared in namespace default has the label tier=backend; pods there have tier=front`}},
		{"not together", podYAML + strings.Replace(webLabelled("app: store"), "name: web", "name: store", 1) + serviceYAML + "  selector: {app: store, tier: front}\n  ports: [{port: 80}]\n", Cluster{}, []string{`20:3 W0601 the service selects nothing: no pod declared in namespace default has all of the labels app=store,tier=front; `}},
		{"other namespace", podYAML + strings.Replace(serviceYAML, "name: web", "name: web\n  namespace: kube-system", 1) + "  selector: {app: web}\n  ports: [{port: 80}]\n", Cluster{}, []string{`14:19 W0601 the service selects nothing: no pod declared in namespace kube-system has the label app=web; pods with these labels are in namespace default`}},
		{"selects in the cluster", serviceYAML + "  selector: {app: web}\n  ports: [{port: 80}]\n", Cluster{Known: true, Objects: []schema.Object{&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default", Labels: map[string]string{"app": "web"}}}}}, nil},
		{"without selector", serviceYAML + "  ports: [{port: 80}]\n", Cluster{}, nil},
		{"external name", serviceYAML + "  type: ExternalName\n  externalName: example.org\n  selector: {app: web}\n", Cluster{}, nil},
		{"port name", podYAML + serviceYAML + "  selector: {app: web}\n  ports: [{port: 80, targetPort: htpp}]\n", Cluster{}, []string{`14:34 W0602 no pod that the service selects has a TCP port named "htpp"; did you mean "http"?`}},
		{"port protocol", podYAML + serviceYAML + "  selector: {app: web}\n  ports: [{port: 80, targetPort: dns}]\n", Cluster{}, []string{`14:34 W0602 no pod that the service selects has a TCP port named "dns"; the pods' port "dns" is UDP`}},
		{"config map", settings + head + "  volumes: [{name: v, configMap: {name: setting}}]\n  containers: [{name: a, image: b}]\n", Cluster{}, []string{`10:41 W0603 the config map "setting" is not declared here (the cluster was not looked at); the pod waits for it; did you mean "settings"?`}},
		{"config map, optional", head + "  volumes: [{name: v, configMap: {name: setting, optional: true}}]\n  containers: [{name: a, image: b}]\n", Cluster{}, nil},
		{"config map of the cluster", head + "  volumes: [{name: v, configMap: {name: s}}]\n  containers: [{name: a, image: b}]\n", Cluster{Known: true, Objects: []schema.Object{&corev1.ConfigMap{ObjectMeta: meta("s")}}}, nil},
		{"key of the cluster", head + "  containers: [{name: a, image: b, env: [{name: A, valueFrom: {configMapKeyRef: {name: s, key: color}}}]}]\n", Cluster{Known: true, Objects: []schema.Object{&corev1.ConfigMap{ObjectMeta: meta("s"), Data: map[string]string{"colors": ""}}}}, []string{`5:96 W0603 the config map "s" in the cluster has no key "color"; the pod waits for it; did you mean "colors"?`}},
		{"secret", head + "  initContainers: [{name: i, image: b, envFrom: [{secretRef: {name: s}}]}]\n  containers: [{name: a, image: b, envFrom: [{secretRef: {name: s}}]}]\n", known, []string{`5:69 W0604 the secret "s" is neither declared nor in the cluster; the pod waits for it; `}},
		{"key", settings + head + "  containers: [{name: a, image: b, env: [{name: A, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}]}]\n", Cluster{}, []string{`10:103 E0605 the config map "settings" has no key "colour"; did you mean "color"?`}},
		{"key of a volume", settings + head + "  volumes: [{name: v, configMap: {name: settings, items: [{key: shape, path: x}]}}]\n  containers: [{name: a, image: b}]\n", Cluster{}, []string{`10:65 E0605 the config map "settings" has no key "shape"; it is declared at f.yaml:1:1`}},
		{"secret's text", "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: b}\n---\n" + head + "  containers: [{name: a, image: b, env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: a}}}]}]\n", Cluster{}, nil},
		{"node ports", serviceYAML + "  type: NodePort\n  ports: [{port: 80, nodePort: 30080}]\n---\n" + strings.Replace(serviceYAML, "web", "api", 1) + "  type: NodePort\n  ports:\n  - {name: t, port: 80, nodePort: 30080}\n  - {name: u, protocol: UDP, port: 80, nodePort: 30080}\n", Cluster{}, []string{
			"7:32 E0606 node port 30080/TCP is claimed twice; also by Service api at f.yaml:16:35",
			"16:35 E0606 node port 30080/TCP is claimed twice; also by Service web at f.yaml:7:32",
		}},
		{"cluster IPs", serviceYAML + "  clusterIP: 10.96.0.9\n  ports: [{port: 80}]\n---\n" + strings.Replace(serviceYAML, "web", "api", 1) + "  clusterIP: 10.96.0.9\n  ports: [{port: 80}]\n", Cluster{}, []string{
			"6:14 E0607 cluster IP 10.96.0.9 is claimed twice; also by Service api at f.yaml:14:14",
			"14:14 E0607 cluster IP 10.96.0.9 is claimed twice; also by Service web at f.yaml:6:14",
		}},
		{"headless", serviceYAML + "  clusterIP: None\n  ports: [{port: 80}]\n---\n" + strings.Replace(serviceYAML, "web", "api", 1) + "  clusterIP: None\n  ports: [{port: 80}]\n", Cluster{}, nil},
		{"cluster IP of the cluster", serviceYAML + "  clusterIP: 10.96.0.9\n  ports: [{port: 80}]\n", Cluster{Known: true, Objects: []schema.Object{&corev1.Service{ObjectMeta: meta("db"), Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.9"}}}}, []string{"6:14 E0607 cluster IP 10.96.0.9 is claimed twice; also by Service default/db in the cluster"}},
		{"its own cluster IP", serviceYAML + "  clusterIP: 10.96.0.9\n  ports: [{port: 80}]\n", Cluster{Known: true, Objects: []schema.Object{&corev1.Service{ObjectMeta: meta("web"), Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.9"}}}}, nil},
		{"host ports", fmt.Sprintf(rc, 3), Cluster{Nodes: two}, []string{"10:78 W0608 each of 3 replicas needs port 80 of a node for itself, and there are 2 known nodes; "}},
		{"host ports that fit", fmt.Sprintf(rc, 2), Cluster{Nodes: two}, nil},
		{"host ports, nodes not known", fmt.Sprintf(rc, 3), Cluster{}, nil},
		{"host network", head + "  hostNetwork: true\n  nodeSelector: {disk: tape}\n  containers: [{name: a, image: b, ports: [{containerPort: 80}]}]\n", Cluster{Nodes: one}, nil},
		{"too much memory", head + "  containers: [{name: a, image: b, resources: {requests: {cpu: 1, memory: 3Gi}}}, {name: c, image: d, resources: {limits: {memory: 2Gi}}}]\n", Cluster{Nodes: two}, []string{"5:75 W0609 the pod requests cpu 1 and memory 5Gi, more than any of 2 known nodes has; the largest: a has cpu 2 and memory 4Gi"}},
		{"of a node only the name is known", head + "  containers: [{name: a, image: b, resources: {requests: {memory: 5Gi}}}]\n", Cluster{Nodes: []*corev1.Node{{}}}, nil},
		{"too much CPU at the start", head + "  initContainers: [{name: i, image: b, resources: {requests: {cpu: 2500m}}}]\n  containers: [{name: a, image: b}]\n", Cluster{Nodes: one}, []string{"5:68 W0609 the pod requests cpu 2500m, more than the one known node has; the largest: a has cpu 2 and memory 4Gi"}},
		{"namespace", strings.Replace(settings, "name: settings", "name: settings, namespace: shop", 1) + strings.Replace(settings, "name: settings", "name: more, namespace: shop", 1), Cluster{}, []string{`3:39 W0610 the namespace "shop" is not declared here (the cluster was not looked at); 1 more object is in it; declare it: apiVersion: v1, kind: Namespace`}},
		{"no namespace", strings.Replace(settings, "name: settings", "name: settings, namespace: shpo", 1), Cluster{Known: true, Objects: []schema.Object{&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}}}, []string{`3:39 E0611 the namespace "shpo" is neither declared nor in the cluster; did you mean "shop"?`}},
		{"namespaces that always are", strings.Replace(settings, "name: settings", "name: settings, namespace: kube-system", 1), known, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			for _, d := range Check(load(t, snapshot("s", "f.yaml", tc.text)), tc.in, nil) {
				got = append(got, fmt.Sprintf("%d:%d %s %s; %s", d.Position.Line, d.Position.Column, d.Code, d.Message, d.Suggestion))
				if (d.Code[0] == 'W') != (d.Severity == manifests.Warning) {
					t.Errorf("%s is a %s", d.Code, d.Severity)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
