package e2e

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

var (
	soakKills = flag.Int("soak.kills", 24, "how many processes TestSoak kills")
	soakSeed  = flag.Uint64("soak.seed", 0, "seed of TestSoak; 0 takes a new one")
)

// soakYAML has pods with all that may leak: namespaces, mounts of many sorts,
// addresses, ports, logs, processes of probes, and containers of every sort.
const soakYAML = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: shop}
data: {key: value}
---
apiVersion: v1
kind: Secret
metadata: {name: keys, namespace: shop}
stringData: {key: value}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: ReplicationController
metadata: {name: web, namespace: shop}
spec:
  replicas: REPLICAS
  selector: {app: web}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      initContainers:
        - {name: first, image: "evenkeel.io/echo:1", env: [{name: WRITE, value: /scratch/note=first}], volumeMounts: [{name: scratch, mountPath: /scratch}]}
      containers:
        - name: web
          image: evenkeel.io/echo:1
          ports: [{name: http, containerPort: 8080}]
          readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1}
          volumeMounts: [{name: all, mountPath: /all}, {name: scratch, mountPath: /scratch}, {name: tools, mountPath: /tools}]
        - name: side
          image: evenkeel.io/echo:1
          env: [{name: HTTP_PORT, value: "8081"}, {name: TCP_PORT, value: "9001"}, {name: UDP_PORT, value: "9001"}]
      volumes:
        - {name: scratch, emptyDir: {medium: Memory}}
        - {name: tools, image: {reference: "evenkeel.io/echo:1"}}
        - name: all
          projected:
            sources:
              - configMap: {name: settings}
              - secret: {name: keys}
              - serviceAccountToken: {path: token, audience: shop}
---
apiVersion: v1
kind: ReplicationController
metadata: {name: edge, namespace: shop}
spec:
  replicas: EDGES
  selector: {app: edge}
  template:
    metadata: {labels: {app: edge}}
    spec:
      hostUsers: false
      terminationGracePeriodSeconds: 1
      initContainers:
        - name: beside
          image: evenkeel.io/echo:1
          restartPolicy: Always
          env: [{name: HTTP_PORT, value: "8081"}, {name: TCP_PORT, value: "9001"}, {name: UDP_PORT, value: "9001"}, {name: CHATTER, value: 5ms}]
      containers:
        - name: edge
          image: evenkeel.io/echo:1
          ports: [{name: http, containerPort: 8080, hostPort: 8088}]
          readinessProbe: {exec: {command: [/echo, get, "http://127.0.0.1:8080/healthz"]}, periodSeconds: 1}
          volumeMounts: [{name: keys, mountPath: /keys, readOnly: true}, {name: scratch, mountPath: /part, subPath: part}]
      volumes:
        - {name: keys, secret: {secretName: keys}}
        - {name: scratch, emptyDir: {}}
`

// soakJobYAML is a pod that ends by itself, unless it is killed before.
const soakJobYAML = `
apiVersion: v1
kind: Pod
metadata: {name: job, namespace: shop}
spec:
  restartPolicy: OnFailure
  terminationGracePeriodSeconds: 1
  initContainers:
    - {name: first, image: "evenkeel.io/echo:1", env: [{name: WRITE, value: /scratch/a=1}], volumeMounts: [{name: scratch, mountPath: /scratch}]}
    - {name: second, image: "evenkeel.io/echo:1", env: [{name: WRITE, value: /scratch/b=2}], volumeMounts: [{name: scratch, mountPath: /scratch}]}
  containers:
    - {name: job, image: "evenkeel.io/echo:1", env: [{name: WRITE, value: /scratch/c=3}], volumeMounts: [{name: scratch, mountPath: /scratch}]}
  volumes: [{name: scratch, emptyDir: {}}]
`

// soak kills what runs pods, at random, while pods come and go.
type soak struct {
	*machines
	host  *host
	rng   *rand.Rand
	kills map[string]int
}

// TestSoak kills the agent, shims, containerd and containers at random during
// churn. After a drain nothing of any pod is left on the machine.
func TestSoak(t *testing.T) {
	require(t)
	t.Parallel()
	seed := *soakSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-soak.seed=%d -soak.kills=%d", seed, *soakKills)
	w := newWorld(t, 1)
	s := &soak{host: w.hosts[0], rng: rand.New(rand.NewPCG(seed, 0)), kills: map[string]int{}}
	s.machines = startMachines(w, s.host.ns, "127.0.0.1", func(r repo) {
		r.write("shop.yaml", shopYAML)
		r.write("web.yaml", strings.NewReplacer("REPLICAS", "0", "EDGES", "0").Replace(soakYAML))
	})
	var empty network
	eventually(t, patience, "node ready, and services in force", func() (err error) {
		empty, err = s.withoutPods()
		return err
	})

	for done := 0; done < *soakKills; {
		s.scale(1+s.rng.IntN(4), s.rng.IntN(2))
		s.renew()
		for range min(8, *soakKills-done) {
			s.pause()
			s.debug()
			s.kill()
			done++
		}
		s.settled(done)
	}
	t.Logf("killed: %v", s.kills)

	w.step("drain")
	s.scale(0, 0)
	eventually(t, patience, "no pod left", func() error {
		if left := podNames(s.cluster.pods(shop, "")); len(left) > 0 {
			return fmt.Errorf("%v", left)
		}
		return nil
	})
	s.host.drained()
	eventually(t, patience, "network as without pods", func() error {
		if diff := cmp.Diff(empty, s.host.network()); diff != "" {
			return errors.New(diff)
		}
		return nil
	})
}

// withoutPods is the host's network when its agent and its proxy are at work: the
// services are there, and so is the name server's address.
func (s *soak) withoutPods() (network, error) {
	node, _ := registry.GetOf[*corev1.Node](s.cluster.mirror, schema.Nodes, "", s.host.name)
	if node == nil || !slices.ContainsFunc(node.Status.Conditions, isNodeReady) {
		return nil, fmt.Errorf("%v", node)
	}
	services := registry.ListOf[*corev1.Service](s.cluster.mirror, schema.Services, "")
	if len(services) < 2 { // the API's own, and the shop's
		return nil, fmt.Errorf("%d services are there", len(services))
	}
	now := s.host.network()
	for _, service := range services {
		if !strings.Contains(now["nft list ruleset"], service.Spec.ClusterIP) {
			return nil, fmt.Errorf("service %s is not in force", service.Name)
		}
	}
	if !strings.Contains(now["ip -br -4 address"], nameServer) {
		return nil, errors.New("the name server has no address")
	}
	return now, nil
}

// nameServer is the address of the name server in pods.
const nameServer = "169.254.20.10"

func isNodeReady(c corev1.NodeCondition) bool {
	return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
}

// scale commits other numbers of replicas, and the job if there are any.
func (s *soak) scale(replicas, edges int) {
	s.t.Helper()
	text := strings.NewReplacer("REPLICAS", fmt.Sprint(replicas), "EDGES", fmt.Sprint(edges)).Replace(soakYAML)
	if replicas > 0 {
		text += "---" + soakJobYAML
	}
	s.repo.write("web.yaml", text+fmt.Sprintf("# %d\n", s.rng.Uint64()))
	s.cluster.inForce(s.repo.commit(fmt.Sprintf("%d and %d replicas", replicas, edges)))
}

// renew deletes all pods, gently or at once: new ones wait for no back-off.
func (s *soak) renew() {
	s.t.Helper()
	for _, pod := range s.cluster.pods(shop, "") {
		grace := int64(s.rng.IntN(2))
		_, err := s.cluster.regs.Delete(s.t.Context(), registry.Deletion{Key: schema.KeyOf(pod), UID: pod.UID, GraceSeconds: &grace})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) { // it is gone, and maybe another has its name
			s.t.Fatal(err)
		}
	}
}

// debug adds a container to a pod, as `kubectl debug` does.
func (s *soak) debug() {
	s.t.Helper()
	pods := s.cluster.pods(shop, "web")
	if len(pods) == 0 || s.rng.IntN(2) == 0 {
		return
	}
	pod := pods[s.rng.IntN(len(pods))].DeepCopy()
	pod.Spec.EphemeralContainers = append(pod.Spec.EphemeralContainers, corev1.EphemeralContainer{
		TargetContainerName: "web",
		EphemeralContainerCommon: corev1.EphemeralContainerCommon{
			Name: fmt.Sprintf("debug-%d", s.rng.Uint32()), Image: "evenkeel.io/echo:1", ImagePullPolicy: corev1.PullIfNotPresent,
			TerminationMessagePolicy: corev1.TerminationMessageReadFile,
			Env:                      []corev1.EnvVar{{Name: "HTTP_PORT", Value: "8082"}, {Name: "TCP_PORT", Value: "9002"}, {Name: "UDP_PORT", Value: "9002"}},
		},
	})
	_, _, err := s.cluster.regs.Commit(s.t.Context(), []registry.Write{{UpdateEphemeral: pod}})
	if err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		s.t.Fatal(err)
	}
}

// pause lets some of what was begun happen.
func (s *soak) pause() {
	<-time.After(time.Duration(s.rng.IntN(400)) * time.Millisecond)
}

// kill is kill -9 of one process of some sort, where there is one.
func (s *soak) kill() {
	s.t.Helper()
	sorts := []string{"agent", "container", "container", "shim", "containerd"}
	sort := sorts[s.rng.IntN(len(sorts))]
	s.kills[sort]++
	switch sort {
	case "agent":
		s.agents[s.host].kill()
		s.startAgent(s.host)
	case "container":
		s.killOne(slices.Sorted(maps.Keys(s.host.containers())))
	case "shim":
		s.killOne(s.host.shims())
	case "containerd":
		s.killOne([]int{pidIn(s.t, filepath.Join(s.host.data(), "containerd", "containerd.pid"))})
	}
}

func (s *soak) killOne(pids []int) {
	s.t.Helper()
	if len(pids) == 0 || pids[0] == 0 {
		return
	}
	if err := syscall.Kill(pids[s.rng.IntN(len(pids))], syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		s.t.Fatal(err)
	}
}

// settled waits until all pods are ready again: mostly new ones, in place of
// those that have to wait for their back-off, and now and then the same.
func (s *soak) settled(kills int) {
	s.t.Helper()
	if kills%40 != 0 {
		s.renew()
	}
	took := eventually(s.t, 5*patience, fmt.Sprintf("all ready after %d kills", kills), func() error {
		if r := s.cluster.report(); !r.Ready {
			return errors.New(describe(r))
		}
		return nil
	})
	s.t.Logf("%d kills, all ready after %v", kills, took)
}

// drained checks that nothing of any pod is on the host, whose agent runs.
func (h *host) drained() {
	h.t.Helper()
	eventually(h.t, patience, "nothing of any pod left", func() error {
		var left []string
		for pid := range h.containers() {
			left = append(left, fmt.Sprint("process ", pid))
		}
		for _, pid := range h.shims() {
			left = append(left, fmt.Sprint("shim ", pid))
		}
		left = append(left, h.podFiles()...)
		left = append(left, h.podMounts()...)
		left = append(left, h.containerdHas("containers", "list", "--quiet")...)
		left = append(left, h.containerdHas("leases", "list", "--quiet")...)
		left = append(left, h.podSnapshots()...)
		if len(left) > 0 {
			return errors.New(strings.Join(left, "\n"))
		}
		return nil
	})
}

// podFiles are the directories of pods: volumes, logs, pinned namespaces and
// cgroups.
func (h *host) podFiles() []string {
	var left []string
	for _, pattern := range []string{
		filepath.Join(h.data(), "pods", h.name, "*"), filepath.Join(h.dir, "l", "*"), filepath.Join(h.dir, "r", "*", "*-*-*-*-*"),
		filepath.Join(h.dir, "r", "*", "*", "*-*-*-*-*"),
	} {
		found, _ := filepath.Glob(pattern)
		left = append(left, found...)
	}
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(path, "/"+h.name+"/") {
			left = append(left, path)
		}
		return nil
	})
	return left
}

// podMounts are the mounts of pods; the directories of namespaces and of
// id-mapped mounts are mounts themselves.
func (h *host) podMounts() []string {
	var left []string
	own := []string{filepath.Join(h.dir, "r", "ns"), filepath.Join(h.dir, "r", "exec", "mapped")}
	table, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		h.t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		if point := strings.Fields(line)[1]; strings.HasPrefix(point, h.dir+"/") && !slices.Contains(own, point) {
			left = append(left, "mount "+point)
		}
	}
	return left
}

// containerdHas asks containerd for what it has of the node.
func (h *host) containerdHas(args ...string) []string {
	h.t.Helper()
	socket := filepath.Join(h.data(), "containerd", "containerd.sock")
	out, err := h.run(h.ns, "ctr", append([]string{"--address", socket, "--namespace", "evenkeel-" + h.name}, args...)...)
	if err != nil {
		return []string{fmt.Sprintf("ctr %v: %v %s", args, err, out)}
	}
	var lines []string
	for line := range strings.Lines(out) {
		lines = append(lines, args[0]+" "+strings.TrimSpace(line))
	}
	return lines
}

// podSnapshots are those of containers and of volumes: images' are committed.
func (h *host) podSnapshots() []string {
	h.t.Helper()
	var left []string
	for _, line := range h.containerdHas("snapshots", "list") {
		if strings.HasSuffix(line, "Active") || strings.HasSuffix(line, "View") || strings.Contains(line, "ctr [") {
			left = append(left, line)
		}
	}
	return left
}
