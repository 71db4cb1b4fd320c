package e2e

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// movedWithin is how long it may take until the pods of a dead node run on
// others.
const movedWithin = 30 * time.Second

// TestThreeNodes runs a service on three nodes, kills one and brings it back.
func TestThreeNodes(t *testing.T) {
	require(t)
	t.Parallel()
	w := newWorld(t, 3)
	n := nodes{startMachines(w, w.hub, hubIP, func(r repo) { r.write("shop.yaml", shopYAML) })}
	for _, h := range w.hosts {
		eventually(t, patience, h.name+" ready", func() error { return n.ready(h) })
	}
	webService(6)(n.repo)
	n.cluster.inForce(n.repo.commit("a service"))
	t.Logf("all ready after %v", n.cluster.ready())
	w.step("pods on every node reach each other")
	n.spread(w.hosts)
	n.mesh()
	w.step("the service answers on every node")
	for _, h := range w.hosts {
		n.serves(h, 6)
	}
	w.step("a node dies")
	dead, stray := n.kill(w.hosts[2])
	w.step("the node comes back")
	n.comeBack(w.hosts[2], dead, stray)
}

type nodes struct{ *machines }

// on are the pods of the service that are bound to a host.
func (n nodes) on(h *host) []*corev1.Pod {
	return slices.DeleteFunc(n.cluster.pods(shop, "web"), func(p *corev1.Pod) bool { return p.Spec.NodeName != h.name })
}

func (n nodes) spread(hosts []*host) {
	n.t.Helper()
	for _, h := range hosts {
		if pods := n.on(h); len(pods) != 2 {
			n.t.Errorf("%d pods are on %s, want 6 pods on 3 nodes spread evenly", len(pods), h.name)
		}
	}
}

// mesh has each pod ask each other, by address.
func (n nodes) mesh() {
	n.t.Helper()
	pods := n.cluster.pods(shop, "web")
	for _, a := range pods {
		for _, b := range pods {
			eventually(n.t, patience, fmt.Sprintf("%s (%s) asks %s (%s)", a.Name, a.Spec.NodeName, b.Name, b.Spec.NodeName), func() error {
				got, err := from(n.host(a).ns, a.Status.PodIP, "dial", "url", "http://"+b.Status.PodIP+":8080/")
				if err == nil && got != b.Name+"\n" {
					err = fmt.Errorf("%q answers", got)
				}
				return err
			})
		}
	}
}

func (n nodes) host(pod *corev1.Pod) *host {
	return n.hosts[slices.IndexFunc(n.hosts, func(h *host) bool { return h.name == pod.Spec.NodeName })]
}

// serves asks the service in all ways on a host, until all its pods have
// answered in each.
func (n nodes) serves(h *host, pods int) {
	n.t.Helper()
	clusterIP := n.cluster.service(shop, "web").Spec.ClusterIP
	type way struct {
		name string
		once func() (string, error)
	}
	ways := []way{
		{"cluster IP", func() (string, error) { return get(h.ns, "http://"+clusterIP) }},
		{"node port from outside", func() (string, error) { return get(n.hub, "http://"+h.ip+":30080") }},
		{"cluster IP by UDP", func() (string, error) { return ask(h.ns, "udp", clusterIP+":9000") }},
	}
	if here := n.on(h); len(here) > 0 {
		ways = append(ways, way{"name in a pod", func() (string, error) {
			return from(h.ns, here[0].Status.PodIP, "dial", "url", "http://web/")
		}})
	}
	for _, way := range ways {
		n.allAnswer(way.name+" on "+h.name, pods, way.once)
	}
}

// kill ends the node agent and the proxy of a host and what runs in its pods,
// but for the processes of one of them: the stray.
func (n nodes) kill(h *host) (dead map[string]bool, stray *corev1.Pod) {
	n.t.Helper()
	dead, pods := map[string]bool{}, n.on(h)
	stray = pods[0]
	alive := n.processes(h, stray)
	began := time.Now()
	n.agents[h].kill()
	n.proxies[h].kill()
	for _, pod := range pods {
		dead[string(pod.UID)] = true
		if pod != stray {
			h.killProcesses(pod)
		}
	}
	for _, pid := range h.shims() {
		if !slices.Contains(alive, pid) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	moved := eventually(n.t, patience, "pods on the other nodes", func() error {
		ready := 0
		for _, pod := range n.cluster.pods(shop, "web") {
			if isReady(pod) && pod.Spec.NodeName != h.name {
				ready++
			}
		}
		if ready != 6 {
			return fmt.Errorf("%d are ready there", ready)
		}
		return nil
	})
	n.t.Logf("%d pods run on other nodes %v after their node died", len(pods), time.Since(began))
	if moved > movedWithin {
		n.t.Errorf("pods ran on other nodes after %v, want at most %v", moved, movedWithin)
	}
	for _, other := range n.hosts {
		if other != h {
			n.serves(other, 6)
		}
	}
	if len(h.processesOf(stray)) == 0 {
		n.t.Fatal("the stray ended by itself: the test cannot tell who removes it")
	}
	return dead, stray
}

// processes are those of a pod, and the shim that holds them.
func (n nodes) processes(h *host, pod *corev1.Pod) []int {
	out := h.processesOf(pod)
	for _, pid := range h.shims() {
		for _, child := range children(pid) {
			if slices.Contains(out, child) {
				out = append(out, pid)
				break
			}
		}
	}
	return out
}

// comeBack starts the programs of a host again. It must not be ready while
// anything runs there that was replaced.
func (n nodes) comeBack(h *host, dead map[string]bool, stray *corev1.Pod) {
	n.t.Helper()
	n.startAgent(h)
	n.startProxy(h)
	took := eventually(n.t, patience, "node ready", func() error { return n.ready(h) })
	for pid, uid := range h.containers() {
		if dead[uid] {
			n.t.Errorf("the node is ready and process %d of a pod that was replaced runs (stray: %v)", pid, uid == string(stray.UID))
		}
	}
	n.t.Logf("%s was ready %v after its agent started", h.name, took)
	n.serves(h, 6)
	pods := n.cluster.podsReady(shop, "web", 6)
	for _, pod := range pods {
		if dead[string(pod.UID)] {
			n.t.Errorf("pod %s is back from the dead", pod.Name)
		}
	}
	running := map[string]int{}
	for _, other := range n.hosts {
		for _, uid := range other.containers() {
			running[uid]++
		}
	}
	if len(running) != 6 {
		n.t.Errorf("%d pods have processes on the three nodes, want 6: %v", len(running), running)
	}
}

// ready says why a node is not, by what etcd has at this moment.
func (n nodes) ready(h *host) error {
	node, err := registry.Of[*corev1.Node](n.cluster.regs, schema.Nodes).Get(n.t.Context(), "", h.name)
	if err != nil {
		return err
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
			return nil
		}
	}
	return fmt.Errorf("its conditions are %+v", node.Status.Conditions)
}
