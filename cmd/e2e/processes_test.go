package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// webYAML is a service with some pods behind it.
const webYAML = `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  type: NodePort
  selector: {app: web}
  ports:
    - {name: http, port: 80, targetPort: http, nodePort: 30080}
    - {name: udp, port: 9000, nodePort: 30900, protocol: UDP}
---
apiVersion: v1
kind: ReplicationController
metadata: {name: web, namespace: shop}
spec:
  replicas: REPLICAS
  selector: {app: web}
  template:
    metadata:
      labels: {app: web}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
        - name: web
          image: evenkeel.io/echo:1
          ports: [{name: http, containerPort: 8080}]
          readinessProbe:
            httpGet: {path: /healthz, port: http}
            periodSeconds: 1
          resources: {requests: {cpu: 20m}}
`

const shop = "shop" // namespace

const shopYAML = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n"

func webService(replicas int) func(repo) {
	return func(r repo) {
		r.write("shop.yaml", shopYAML)
		r.write("web.yaml", strings.ReplaceAll(webYAML, "REPLICAS", fmt.Sprint(replicas)))
	}
}

// TestThreeProcesses kills each of the three programs, and etcd, in turn under
// traffic, and starts it again: no container and no request may notice.
func TestThreeProcesses(t *testing.T) {
	require(t)
	t.Parallel()
	w := newWorld(t, 1)
	h := w.hosts[0]
	m := startMachines(w, h.ns, "127.0.0.1", webService(3))
	m.cluster.ready()
	clusterIP := m.cluster.service(shop, "web").Spec.ClusterIP
	targets := []string{"http://" + clusterIP, "http://" + h.ip + ":30080"}
	for _, target := range targets {
		eventually(t, patience, target, func() error {
			_, err := get(h.ns, target)
			return err
		})
	}
	pods, before := podUIDs(m.cluster.pods(shop, "web")), h.running()
	inside, outside := w.startTraffic(h.ns, 50, targets...), w.startTraffic(w.hub, 50, targets[1])
	for _, victim := range []struct {
		name  string
		now   func() *process
		again func()
	}{
		{"reconcile", func() *process { return m.control }, m.startControl},
		{"nodeagent", func() *process { return m.agents[h] }, func() { m.startAgent(h) }},
		{"proxy", func() *process { return m.proxies[h] }, func() { m.startProxy(h) }},
		{"etcd", func() *process { return m.store }, m.startStore},
	} {
		w.step(victim.name + " is killed")
		victim.now().kill()
		awaitRequests(t, inside, 100)
		victim.again()
		m.works(victim.name)
		awaitRequests(t, inside, 100)
	}
	for who, tr := range map[string]*traffic{"on the node": inside, "from outside": outside} {
		n, err := tr.end()
		t.Logf("%d requests %s", n, who)
		if err != nil {
			t.Errorf("requests %s failed: %v", who, err)
		}
	}
	m.restarted(pods)
	after := h.running()
	for _, pid := range before {
		if !slices.Contains(after, pid) {
			t.Errorf("process %d ran in a pod before, and does no more", pid)
		}
	}
}

// awaitRequests waits until so many more were sent.
func awaitRequests(t *testing.T, tr *traffic, n int) {
	t.Helper()
	from := tr.sent()
	eventually(t, patience, "traffic", func() error {
		if sent := tr.sent() - from; sent < n {
			return fmt.Errorf("%d of %d requests", sent, n)
		}
		return nil
	})
}

// works takes a new service from a commit to an answer, which needs all three
// programs.
func (m *machines) works(name string) {
	m.t.Helper()
	m.repo.write(name+".yaml", fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: %[1]s, namespace: shop}
spec:
  selector: {app: %[1]s}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: %[1]s, namespace: shop, labels: {app: %[1]s}}
spec:
  containers: [{name: web, image: "evenkeel.io/echo:1"}]
`, name))
	took := m.cluster.inForce(m.repo.commit("add " + name))
	ready := m.cluster.ready()
	clusterIP := m.cluster.service(shop, name).Spec.ClusterIP
	eventually(m.t, patience, name+" answers", func() error {
		_, err := get(m.hosts[0].ns, "http://"+clusterIP)
		return err
	})
	m.t.Logf("%s: in force after %v, ready %v later", name, took, ready)
}

// restarted checks that of the pods before none was replaced or restarted.
func (m *machines) restarted(before map[string]int32) {
	m.t.Helper()
	if diff := cmp.Diff(before, podUIDs(m.cluster.pods(shop, "web"))); diff != "" {
		m.t.Errorf("pods and their restarts (-before +after):\n%s", diff)
	}
}
