package nodeagent

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evenkeel/evenkeel/nodeagent/network"
	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/nodeagent/runtime/fake"
	"github.com/evenkeel/evenkeel/nodeagent/volume"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/registry/memory"
)

const node = "n1"

// fakeNetwork is a Network in memory.
type fakeNetwork struct {
	mu        sync.Mutex
	sandboxes map[string]network.Sandbox
	cidr      netip.Prefix
	peers     []network.Peer
	peerCalls int
	setups    int
	cidrErr   error
	stuck     bool // Teardown fails
}

func (n *fakeNetwork) Setup(_ context.Context, pod network.Pod) (network.Sandbox, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.setups++
	if s, ok := n.sandboxes[pod.UID]; ok {
		return s, nil
	}
	if pod.HostNetwork {
		n.sandboxes[pod.UID] = network.Sandbox{UID: pod.UID, IP: netip.MustParseAddr("192.168.0.1"), IPCNS: "/ns/ipc"}
		return n.sandboxes[pod.UID], nil
	}
	if !n.cidr.IsValid() {
		return network.Sandbox{}, fmt.Errorf("no pod CIDR yet")
	}
	ip := n.cidr.Addr()
	for range len(n.sandboxes) + 2 {
		ip = ip.Next()
	}
	n.sandboxes[pod.UID] = network.Sandbox{UID: pod.UID, IP: ip, NetNS: "/ns/" + pod.UID}
	return n.sandboxes[pod.UID], nil
}

func (n *fakeNetwork) Teardown(_ context.Context, uid string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stuck {
		return fmt.Errorf("device or resource busy")
	}
	delete(n.sandboxes, uid)
	return nil
}

func (n *fakeNetwork) List() ([]network.Sandbox, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []network.Sandbox
	for _, s := range n.sandboxes {
		out = append(out, s)
	}
	return out, nil
}

func (n *fakeNetwork) SetPodCIDR(p netip.Prefix) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cidrErr != nil {
		return n.cidrErr
	}
	n.cidr = p
	return nil
}

func (n *fakeNetwork) SetPeers(_ context.Context, peers []network.Peer) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.peers = peers
	n.peerCalls++
	return nil
}

// darkStore is a store that can be away.
type darkStore struct {
	*memory.Store
	dark   atomic.Bool
	failed atomic.Int64
}

func (s *darkStore) Commit(ctx context.Context, txn registry.Txn) (int64, error) {
	if s.dark.Load() {
		s.failed.Add(1)
		return 0, fmt.Errorf("commit: %w", registry.ErrUnavailable)
	}
	return s.Store.Commit(ctx, txn)
}

func (s *darkStore) KeepAlive(ctx context.Context, id registry.LeaseID) error {
	if s.dark.Load() {
		s.failed.Add(1)
		return fmt.Errorf("keep alive: %w", registry.ErrUnavailable)
	}
	return s.Store.KeepAlive(ctx, id)
}

func (s *darkStore) Grant(ctx context.Context, ttl time.Duration) (registry.LeaseID, error) {
	if s.dark.Load() {
		return 0, fmt.Errorf("grant: %w", registry.ErrUnavailable)
	}
	return s.Store.Grant(ctx, ttl)
}

// unmounted are volumes whose shared memory is an ordinary directory.
type unmounted struct{ *volume.Manager }

func (u unmounted) SharedMemory(podUID string) (string, error) {
	dir := filepath.Join(u.Files(podUID), "shm")
	return dir, os.MkdirAll(dir, 0o755)
}

// world is a machine with an agent, its store and its runtime.
type world struct {
	t        *testing.T
	store    *darkStore
	runtime  *gatedRuntime
	network  *fakeNetwork
	volumes  *volume.Manager
	logs     fakeLogs
	images   chan struct{}
	loaded   chan struct{} // nil: there is nothing to load
	meter    fakeMeter
	eviction Eviction
	podPIDs  int64
	own      chan []*corev1.Pod // static pods, if any
	alone    bool               // without a control plane
	dir      string
	kill     func() // ends the agent
}

// inWorld runs a test in a bubble of its own, in which the agent is not yet
// started and the node is known to the control plane.
func inWorld(t *testing.T, test func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		volumes, err := volume.New(volume.Config{Dir: filepath.Join(dir, "pods"), Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		w := &world{
			t: t, store: &darkStore{Store: memory.New()}, runtime: &gatedRuntime{Runtime: fake.New(), gates: map[string]chan struct{}{}}, volumes: volumes, dir: dir,
			network: &fakeNetwork{sandboxes: map[string]network.Sandbox{}}, images: make(chan struct{}), kill: func() {},
		}
		w.runtime.AddImage(rt.Image{Ref: "app:1", Entrypoint: []string{"/app"}})
		w.put(schema.BindingNodeName, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}, Spec: corev1.NodeSpec{PodCIDR: "10.1.0.0/24"}})
		defer func() { w.kill() }()
		test(w)
	})
}

// start runs an agent and waits until it has nothing to do.
func (w *world) start() {
	w.t.Helper()
	logger := slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	recorder := registry.NewRecorder(registry.RecorderConfig{Store: w.store, Component: "nodeagent", Host: node, Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(w.t.Context())
	var tasks sync.WaitGroup
	tasks.Go(func() { _ = recorder.Run(ctx) })
	tasks.Go(func() {
		err := Run(ctx, Config{
			StartWorkers: 4,
			Node:         node, NodeIP: netip.MustParseAddr("192.168.0.1"), Store: w.store, Runtime: w.runtime, Network: w.network, Volumes: unmounted{w.volumes},
			Recorder: recorder, Capacity: Capacity{MilliCPU: 2000, Memory: 4 << 30, Pods: 110}, Logs: &w.logs,
			PodPIDs: w.podPIDs, Eviction: w.eviction, Meter: &w.meter,
			ImagesChanged: w.images, ImagesLoaded: w.loaded, Logger: logger, Static: w.own, Standalone: w.alone, PodCIDR: netip.MustParsePrefix("10.9.0.0/24"),
		})
		if err != nil {
			w.t.Errorf("Run: %v", err)
		}
	})
	w.kill = func() {
		cancel()
		tasks.Wait()
		w.kill = func() {}
	}
	synctest.Wait()
}

// pass lets time go by.
func (w *world) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (w *world) commit(ops ...registry.Op) {
	w.t.Helper()
	if _, err := w.store.Store.Commit(w.t.Context(), registry.Txn{Ops: ops}); err != nil {
		w.t.Fatal(err)
	}
}

// put writes a key of the node's bindings, as the control plane does.
func (w *world) put(name string, obj runtime.Object) {
	w.t.Helper()
	data, err := schema.Encode(obj)
	if err != nil {
		w.t.Fatal(err)
	}
	w.commit(registry.Put(schema.BindingPrefix(node)+name, data))
}

func (w *world) bind(objs ...schema.Object) {
	w.t.Helper()
	for _, obj := range objs {
		w.put(schema.KeyOf(obj).String(), obj)
	}
	synctest.Wait()
}

func (w *world) unbind(objs ...schema.Object) {
	w.t.Helper()
	for _, obj := range objs {
		w.commit(registry.Delete(schema.BindingPath(node, schema.KeyOf(obj))))
	}
	synctest.Wait()
}

// delete marks a pod, as the control plane does.
func (w *world) delete(pod *corev1.Pod, grace int64) {
	w.t.Helper()
	going := pod.DeepCopy()
	now := metav1.Now()
	going.DeletionTimestamp, going.DeletionGracePeriodSeconds = &now, &grace
	w.bind(going)
}

// said is what the agent last wrote of a pod.
func (w *world) said(pod *corev1.Pod) *corev1.Pod {
	w.t.Helper()
	kv, err := w.store.Get(w.t.Context(), schema.PodStatusPath(node, pod.Namespace, pod.Name))
	if err != nil {
		return &corev1.Pod{}
	}
	obj, err := schema.DecodeObject(kv.Value)
	if err != nil {
		w.t.Fatal(err)
	}
	return obj.(*corev1.Pod)
}

// state is a pod in one line: phase, then each container's state, readiness
// and restarts.
func (w *world) state(pod *corev1.Pod) string {
	status := w.said(pod).Status
	out := string(status.Phase)
	for _, c := range slices.Concat(status.InitContainerStatuses, status.ContainerStatuses) {
		out += " " + c.Name + "="
		switch {
		case c.State.Running != nil:
			out += "running"
		case c.State.Terminated != nil:
			out += c.State.Terminated.Reason
		case c.State.Waiting != nil:
			out += c.State.Waiting.Reason
		}
		if c.Ready {
			out += ",ready"
		}
		out += fmt.Sprintf(",%d", c.RestartCount)
	}
	return out
}

func (w *world) wantState(pod *corev1.Pod, want string) {
	w.t.Helper()
	if got := w.state(pod); got != want {
		w.t.Errorf("pod %s: got %q, want %q\n%s", pod.Name, got, want, w.runtime.Dump())
	}
}

// wantNothing checks that nothing of a pod is on the machine.
func (w *world) wantNothing(pod *corev1.Pod) {
	w.t.Helper()
	list, err := w.runtime.Containers(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, c := range list {
		if c.Pod.UID == string(pod.UID) {
			w.t.Errorf("container %s is left", c.ID)
		}
	}
	sandboxes, _ := w.network.List()
	for _, s := range sandboxes {
		if s.UID == string(pod.UID) {
			w.t.Errorf("sandbox of %s is left", s.UID)
		}
	}
	volumes, err := w.volumes.List()
	if err != nil {
		w.t.Fatal(err)
	}
	if slices.Contains(volumes, string(pod.UID)) {
		w.t.Errorf("volumes of %s are left", pod.UID)
	}
	logs, _ := filepath.Glob(filepath.Join(w.dir, "logs", "*"+string(pod.UID)))
	if len(logs) > 0 {
		w.t.Errorf("logs are left: %v", logs)
	}
}

func (w *world) exit(pod *corev1.Pod, container string, code int) {
	w.t.Helper()
	if !w.runtime.Exit(w.runtime.Find(string(pod.UID), container), code) {
		w.t.Fatalf("container %s does not run\n%s", container, w.runtime.Dump())
	}
	synctest.Wait()
}

// newPod is a pod with one container for each name.
func newPod(name string, containers ...string) *corev1.Pod {
	grace := int64(30)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name)},
		Spec:       corev1.PodSpec{RestartPolicy: corev1.RestartPolicyAlways, TerminationGracePeriodSeconds: &grace, NodeName: node},
	}
	for _, c := range containers {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: c, Image: "app:1", ImagePullPolicy: corev1.PullIfNotPresent})
	}
	return pod
}
