package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// fullNode is as many pods as a node takes.
const fullNode = 110

const manyYAML = `
apiVersion: v1
kind: ReplicationController
metadata: {name: many, namespace: shop}
spec:
  replicas: REPLICAS
  selector: {app: many}
  template:
    metadata: {labels: {app: many}}
    spec:
      terminationGracePeriodSeconds: 1
      automountServiceAccountToken: false
      containers:
        - name: many
          image: evenkeel.io/echo:1
          ports: [{name: http, containerPort: 8080}]
          readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 2, timeoutSeconds: 5}
          startupProbe: {tcpSocket: {port: http}, periodSeconds: 1, failureThreshold: 100}
          livenessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 5, timeoutSeconds: 5, failureThreshold: 10}
          env: [{name: CHATTER, value: 200ms}]
`

// TestTakeover kills the agent of a full node, and stops it as an upgrade
// does: the next one has taken over all pods within a second, which a busy
// machine may make three, and neither pods nor who reads of them notice. No other
// test runs beside it.
func TestTakeover(t *testing.T) {
	require(t)
	w := newWorld(t, 1)
	h := w.hosts[0]
	m := startMachines(w, h.ns, "127.0.0.1", func(r repo) {
		r.write("shop.yaml", shopYAML)
		r.write("many.yaml", strings.ReplaceAll(manyYAML, "REPLICAS", fmt.Sprint(fullNode)))
	})
	o := takeover{machines: m, host: h, store: w.openEtcd(h.ns, m.etcd)}
	o.allReady()
	o.crashOne()
	o.lookIntoOne()
	before, running, quickest := o.said(), h.running(), patience
	for _, way := range []struct {
		name string
		end  func()
	}{
		{"killed", func() { m.agents[h].kill() }},
		{"stopped", func() { m.agents[h].endGently() }},
		{"killed as it takes over", func() {
			for after := range 5 {
				m.agents[h].kill()
				m.startAgent(h)
				<-time.After(time.Duration(after) * 60 * time.Millisecond)
			}
			m.agents[h].kill()
		}},
	} {
		w.step("the agent is " + way.name)
		way.end()
		quickest = min(quickest, o.takenOver())
		steadily(t, 2*time.Second, "pods as before", func() error {
			if diff := cmp.Diff(before, o.said()); diff != "" {
				return errors.New(diff)
			}
			return nil
		})
	}
	if quickest > 3*time.Second {
		t.Errorf("taken over after %v at best, want a second", quickest)
	}
	if after := h.running(); !slices.Equal(running, after) {
		t.Errorf("processes before and after (-before +after):\n%s", cmp.Diff(running, after))
	}
	o.exitsSeen()
	o.logsWhole()
}

// takeover is a full node whose agent comes and goes.
type takeover struct {
	*machines
	host  *host
	store registry.Store
}

func (o takeover) allReady() {
	o.t.Helper()
	took := eventually(o.t, 3*patience, "all pods ready", func() error {
		ready := 0
		for _, pod := range o.cluster.pods(shop, "many") {
			if isReady(pod) {
				ready++
			}
		}
		if ready != fullNode {
			return fmt.Errorf("%d are", ready)
		}
		return nil
	})
	o.t.Logf("%d pods ready after %v", fullNode, took)
}

// crashOne gives one pod a restart to remember.
func (o takeover) crashOne() {
	o.t.Helper()
	pod := o.cluster.pods(shop, "many")[0]
	o.host.killProcesses(pod)
	o.restartedTo(pod, 1)
}

// lookIntoOne adds containers to one pod: one that has ended, and one that runs
// on among the pod's processes.
func (o takeover) lookIntoOne() {
	o.t.Helper()
	pod := o.cluster.pods(shop, "many")[2].DeepCopy()
	for name, env := range map[string][]corev1.EnvVar{
		"ended": {{Name: "EXIT_CODE", Value: "3"}},
		"looks": {{Name: "HTTP_PORT", Value: "8081"}, {Name: "TCP_PORT", Value: "9001"}, {Name: "UDP_PORT", Value: "9001"}},
	} {
		pod.Spec.EphemeralContainers = append(pod.Spec.EphemeralContainers, corev1.EphemeralContainer{
			EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: name, Image: echoImage, ImagePullPolicy: corev1.PullIfNotPresent, Env: env},
			TargetContainerName:      "many",
		})
	}
	pod.ResourceVersion = ""
	if _, _, err := o.cluster.regs.Commit(o.t.Context(), []registry.Write{{UpdateEphemeral: pod}}); err != nil {
		o.t.Fatal(err)
	}
	eventually(o.t, patience, "looked into "+pod.Name, func() error {
		states := map[string]corev1.ContainerState{}
		for _, c := range o.cluster.pod(shop, pod.Name).Status.EphemeralContainerStatuses {
			states[c.Name] = c.State
		}
		if ended := states["ended"].Terminated; ended == nil || ended.ExitCode != 3 || states["looks"].Running == nil {
			return fmt.Errorf("its containers: %+v", states)
		}
		return nil
	})
}

// restartedTo waits until a pod's container was restarted so many times and is
// ready.
func (o takeover) restartedTo(pod *corev1.Pod, n int32) time.Duration {
	o.t.Helper()
	return eventually(o.t, patience, "restart of "+pod.Name, func() error {
		if p := o.cluster.pod(shop, pod.Name); restarts(p) != n || !isReady(p) {
			return fmt.Errorf("%d restarts, ready: %t", restarts(p), isReady(p))
		}
		return nil
	})
}

// said is what readers of pods must not see change: the containers, how often
// they were restarted, and since when all is ready.
func (o takeover) said() map[string]string {
	out := map[string]string{}
	for _, pod := range o.cluster.pods(shop, "many") {
		text := fmt.Sprintln(pod.Status.Phase, pod.Status.PodIP)
		for _, c := range pod.Status.ContainerStatuses {
			text += fmt.Sprintln(c.ContainerID, c.RestartCount, c.Ready, *c.Started, c.LastTerminationState.Terminated)
		}
		for _, c := range pod.Status.EphemeralContainerStatuses {
			text += fmt.Sprintln(c.ContainerID, c.RestartCount, c.State.Running, c.State.Terminated)
		}
		for _, c := range pod.Status.Conditions {
			text += fmt.Sprintln(c.Type, c.Status, c.LastTransitionTime)
		}
		out[pod.Name] = text
	}
	return out
}

// takenOver starts an agent and waits until it has taken over: then it holds a
// lease of its own.
func (o takeover) takenOver(flags ...string) time.Duration {
	o.t.Helper()
	before := o.lease()
	began := time.Now()
	o.startAgent(o.host, flags...)
	eventually(o.t, patience, "node taken over", func() error {
		if o.lease() == before {
			return errors.New("the lease is the earlier agent's")
		}
		return nil
	})
	took := time.Since(began)
	o.t.Logf("taken over %v after the start of the agent", took)
	return took
}

func (o takeover) lease() registry.LeaseID {
	o.t.Helper()
	kv, err := o.store.Get(o.t.Context(), schema.NodeLeasePrefix+o.host.name)
	if err != nil && !errors.Is(err, registry.ErrNotFound) {
		o.t.Fatal(err)
	}
	return kv.Lease
}

// exitsSeen checks that a container that ended without an agent is restarted
// by the next one.
func (o takeover) exitsSeen() {
	o.t.Helper()
	o.step("a container ends while there is no agent")
	pod := o.cluster.pods(shop, "many")[1]
	o.agents[o.host].kill()
	o.host.killProcesses(pod)
	o.startAgent(o.host)
	o.t.Logf("ready again %v after the start of the agent", o.restartedTo(pod, 1))
}

// logsWhole checks that no line of any container is missing from its log.
func (o takeover) logsWhole() {
	o.t.Helper()
	files, _ := filepath.Glob(filepath.Join(o.host.dir, "l", "*", "many", "*.log"))
	if len(files) < fullNode {
		o.t.Fatalf("%d logs", len(files))
	}
	least := 1 << 30
	for _, file := range files {
		lines, err := countLines(file)
		if err != nil {
			o.t.Error(err)
		}
		if filepath.Base(file) == "0.log" {
			least = min(least, lines)
		}
	}
	o.t.Logf("%d logs without a gap, the shortest with %d lines", len(files), least)
}

// countLines counts the numbered lines of a log, and fails if one is missing,
// twice there, or torn.
func countLines(file string) (int, error) {
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		if _, said, _ := strings.Cut(line, " stdout F line "); said != "" {
			if n++; said != fmt.Sprintln(n) {
				return n, fmt.Errorf("%s: line %d says %q", file, n, line)
			}
		}
	}
	return n, nil
}

// endGently is SIGTERM, as an upgrade sends; the program must end well.
func (p *process) endGently() {
	p.w.t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	if !p.wait(patience) || p.err != nil {
		p.w.t.Fatalf("%s did not end well on SIGTERM: %v", p.name, p.err)
	}
}
