package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/schema"
)

const staticYAML = `
apiVersion: v1
kind: Pod
metadata: {name: own, namespace: shop, labels: {app: own}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: web
      image: evenkeel.io/echo:1
      ports: [{name: http, containerPort: 8080}]
      readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1}
`

// TestStaticPods runs a node's own pod without any control plane, and then with
// one, which shows it.
func TestStaticPods(t *testing.T) {
	require(t)
	t.Parallel()
	w := newWorld(t, 1)
	h := w.hosts[0]
	dir := filepath.Join(h.dir, "static")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "own.yaml")
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put(staticYAML)
	alone := append([]string{"--static-pods=" + dir, "--eviction-hard=", "--image-gc-high-threshold=100", "--images=" + h.images()}, h.place()...)
	agent := w.start(h.ns, "nodeagent", alone...)
	h.runs("the pod runs", 1)
	before := h.containers()

	w.step("the agent is killed")
	agent.kill()
	agent = w.start(h.ns, "nodeagent", alone...)
	eventually(t, patience, "agent is back", func() error { return logs(agent, "without a control plane") })

	w.step("the manifest is broken")
	put(strings.ReplaceAll(staticYAML, "image:", "imaeg:"))
	eventually(t, patience, "the mistake is told", func() error { return logs(agent, "own.yaml") })
	if after := h.containers(); !maps.Equal(before, after) {
		t.Errorf("processes and their pods before and after: %v, %v", before, after)
	}

	w.step("a control plane comes")
	agent.kill()
	put(staticYAML)
	m := &machines{world: w, where: h.ns, ip: "127.0.0.1", repo: w.newRepo("repo"), agents: map[*host]*process{}, proxies: map[*host]*process{}}
	m.repo.write("shop.yaml", shopYAML)
	commit := m.repo.commit("first")
	m.startStore()
	m.startControl()
	m.cluster = w.cluster(h.ns, m.etcd)
	m.cluster.inForce(commit)
	w.start(h.ns, "nodeagent", append(alone, "--etcd="+m.etcd)...)
	eventually(t, patience, "the mirror is ready", func() error {
		pods := m.cluster.podsReady(shop, "own", 1)
		if len(pods) != 1 || pods[0].Name != "own-"+h.name || pods[0].Annotations[schema.MirrorAnnotation] == "" {
			return fmt.Errorf("%v", podNames(m.cluster.pods(shop, "")))
		}
		return nil
	})
	if after := h.containers(); !maps.Equal(before, after) {
		t.Errorf("processes and their pods before and after: %v, %v", before, after)
	}

	w.step("the file goes")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	h.runs("nothing runs", 0)
	eventually(t, patience, "the mirror is gone", func() error {
		if left := podNames(m.cluster.pods(shop, "")); len(left) > 0 {
			return fmt.Errorf("%v", left)
		}
		return nil
	})
}

// runs waits until so many pods do.
func (h *host) runs(what string, pods int) {
	h.t.Helper()
	eventually(h.t, patience, what, func() error {
		if n := len(slices.Compact(slices.Sorted(maps.Values(h.containers())))); n != pods {
			return fmt.Errorf("%d pods run", n)
		}
		return nil
	})
}

func logs(p *process, text string) error {
	if !strings.Contains(p.output(), text) {
		return fmt.Errorf("no %q in the log", text)
	}
	return nil
}

func podNames(pods []*corev1.Pod) []string {
	var out []string
	for _, p := range pods {
		out = append(out, p.Name)
	}
	return out
}
