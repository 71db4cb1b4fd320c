package conformance

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/evenkeel/evenkeel/cmd/internal/node"
	"github.com/evenkeel/evenkeel/nodeagent/runtime/containerd"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/registry/memory"
	"github.com/evenkeel/evenkeel/schema/validation"
	"github.com/evenkeel/evenkeel/testdata/images"
	"github.com/evenkeel/evenkeel/testdata/requires"
)

const (
	image = "evenkeel.io/conformance:1"
	limit = 60 * time.Second // of any wait
)

// podNet begins the addresses of this process's pods: the machine has routes to
// them, which another run beside this one would take away.
var podNet = fmt.Sprintf("10.217.%d.", os.Getpid()%256)

// world is a node that runs for real, with a control plane in memory.
type world struct {
	t     *testing.T
	name  string
	dir   string
	store *memory.Store
	flags node.Flags
	end   func() // of the agent
}

// start runs a node until the test ends, and then removes it and looks whether
// anything is left.
func start(t *testing.T) *world {
	t.Helper()
	need(t)
	return startIn(t, place(t))
}

// place is a directory that lasts as long as the test, or longer if a mount is
// left below it: nothing of that is to be deleted.
func place(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "ekc") // short: sockets lie below it
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil { // for pods with users of their own
		t.Fatal(err)
	}
	t.Cleanup(func() {
		mounts, err := os.ReadFile("/proc/self/mounts")
		if err != nil || strings.Contains(string(mounts), dir+"/") {
			t.Errorf("mounts are left below %s: %v", dir, err)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// startIn runs a node that has all its things in a directory.
func startIn(t *testing.T, dir string, flags ...string) *world {
	t.Helper()
	w := &world{t: t, name: filepath.Base(dir), dir: dir, store: memory.New(), end: func() {}}
	t.Cleanup(func() {
		w.end()
		if w.flags.IP != "" {
			w.remove()
		}
	})
	if err := images.BuildWith(t.Context(), "testdata/tool", image, filepath.Join(dir, "tool.tar"), images.Options{User: "0", Dirs: []string{"/data"}}); err != nil {
		t.Fatal(err)
	}
	cmd := &cobra.Command{}
	w.flags.AddFlags(cmd)
	err := cmd.ParseFlags(append([]string{
		"--node-name", w.name, "--data-dir", dir + "/d", "--run-dir", dir + "/r", "--log-dir", dir + "/l",
		"--images", dir, "--eviction-hard=", "--image-gc-high-threshold=100", "--server-address", "127.0.0.1:0", "--dns-address", "10.0.0.10",
	}, flags...))
	if err := errors.Join(err, w.flags.Complete()); err != nil {
		t.Fatal(err)
	}
	w.put(schema.BindingNodeName, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: w.name}, Spec: corev1.NodeSpec{PodCIDR: podNet + "0/24"}})
	w.launch()
	return w
}

// launch runs the node's agent until end is called.
func (w *world) launch() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	n, err := node.Open(ctx, w.flags, slog.New(slog.NewTextHandler(logWriter{w.t}, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		cancel()
		w.t.Fatal(err)
	}
	var tasks sync.WaitGroup
	tasks.Go(func() {
		defer n.Close()
		if err := n.Run(ctx, w.store, prometheus.NewRegistry()); err != nil {
			w.t.Errorf("node: %v", err)
		}
	})
	w.end = func() {
		cancel()
		tasks.Wait()
	}
}

func need(t *testing.T) {
	t.Helper()
	requires.Root(t)
	requires.Programs(t, "containerd", "runc", "nft")
}

func (w *world) remove() {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if _, err := node.Remove(ctx, w.flags, time.Second, slog.New(slog.DiscardHandler)); err != nil {
		w.t.Errorf("remove the node: %v", err)
		if err := containerd.StopPrivate(ctx, filepath.Join(w.flags.DataDir, "containerd")); err != nil {
			w.t.Error(err)
		}
	}
}

type logWriter struct{ t *testing.T }

func (l logWriter) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimRight(string(p), "\n"))
	return len(p), nil
}

// put writes a key of the node's bindings, as the control plane does.
func (w *world) put(name string, obj runtime.Object) {
	w.t.Helper()
	data, err := schema.Encode(obj)
	if err != nil {
		w.t.Fatal(err)
	}
	w.commit(registry.Put(schema.BindingPrefix(w.name)+name, data))
}

func (w *world) commit(ops ...registry.Op) {
	w.t.Helper()
	if _, err := w.store.Commit(context.Background(), registry.Txn{Ops: ops}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) bind(objs ...schema.Object) {
	w.t.Helper()
	for _, obj := range objs {
		w.put(schema.KeyOf(obj).String(), obj)
	}
}

// pod reads a pod's spec, defaults it and has it judged as the API server does.
// "IMAGE" in it is the tests' image, "DIR" a directory of the machine.
func (w *world) pod(t *testing.T, name, spec string) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
	}
	spec = strings.NewReplacer("IMAGE", image, "DIR", w.dir+"/h").Replace(spec)
	if err := yaml.UnmarshalStrict([]byte(spec), &pod.Spec); err != nil {
		t.Fatalf("%v in\n%s", err, spec)
	}
	validation.Default(pod)
	if errs := validation.Validate(pod); len(errs) > 0 {
		t.Fatal(errs.ToAggregate())
	}
	pod.UID = types.UID(w.name + "-" + name)
	pod.Spec.NodeName = w.name
	return pod
}

// run binds a pod and waits until it is as wanted.
func (w *world) run(t *testing.T, pod *corev1.Pod, what string, is func(*corev1.Pod) bool) *corev1.Pod {
	t.Helper()
	w.bind(pod)
	return w.await(t, pod, what, is)
}

// await waits until a pod's status is as wanted.
func (w *world) await(t *testing.T, pod *corev1.Pod, what string, is func(*corev1.Pod) bool) *corev1.Pod {
	t.Helper()
	said := &corev1.Pod{}
	w.until(t, func() bool {
		kv, err := w.store.Get(t.Context(), schema.PodStatusPath(w.name, pod.Namespace, pod.Name))
		if err != nil {
			return false
		}
		obj, err := schema.DecodeObject(kv.Value)
		if err != nil {
			t.Fatal(err)
		}
		said = obj.(*corev1.Pod)
		return said.UID == pod.UID && is(said)
	}, func() string { return fmt.Sprintf("pod %s never was %s: %s", pod.Name, what, summary(said)) })
	return said
}

// until polls, which a test of what others do from outside has to.
func (w *world) until(t *testing.T, is func() bool, complaint func() string) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	over := time.After(limit)
	for !is() {
		select {
		case <-over:
			t.Fatal(complaint())
		case <-ticker.C:
		}
	}
}

func summary(pod *corev1.Pod) string {
	s := pod.Status
	out := fmt.Sprintf("%s %s %s", s.Phase, s.Reason, s.Message)
	for _, c := range slices.Concat(s.InitContainerStatuses, s.ContainerStatuses) {
		out += fmt.Sprintf("\n  %s ready=%t restarts=%d", c.Name, c.Ready, c.RestartCount)
		switch {
		case c.State.Waiting != nil:
			out += " waiting: " + c.State.Waiting.Reason + " " + c.State.Waiting.Message
		case c.State.Terminated != nil:
			out += fmt.Sprintf(" terminated: %+v", *c.State.Terminated)
		}
	}
	return out
}

func ended(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

func ready(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func status(p *corev1.Pod, name string) corev1.ContainerStatus {
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if c.Name == name {
			return c
		}
	}
	return corev1.ContainerStatus{}
}

// log is what the starts of a container wrote.
func (w *world) log(t *testing.T, pod *corev1.Pod, container string) string {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(w.dir, "l", pod.Namespace+"_"+pod.Name+"_"+string(pod.UID), container, "*.log"))
	var out strings.Builder
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			if fields := strings.SplitN(line, " ", 4); len(fields) == 4 {
				out.WriteString(fields[3])
			}
		}
	}
	return out.String()
}

// wantLog waits until a container has said all of some things.
func (w *world) wantLog(t *testing.T, pod *corev1.Pod, container string, want ...string) {
	t.Helper()
	log, missing := "", ""
	w.until(t, func() bool {
		log = "\n" + w.log(t, pod, container)
		i := slices.IndexFunc(want, func(s string) bool { return !strings.Contains(log, s) })
		if i < 0 {
			return true
		}
		missing = want[i]
		return false
	}, func() string {
		return fmt.Sprintf("container %s of pod %s never said %q:%s", container, pod.Name, missing, log)
	})
}

// delete marks a pod and waits until it has stopped.
func (w *world) delete(t *testing.T, pod *corev1.Pod, grace int64) (took time.Duration) {
	t.Helper()
	began := time.Now()
	going := pod.DeepCopy()
	now := metav1.Now()
	going.DeletionTimestamp, going.DeletionGracePeriodSeconds = &now, &grace
	w.bind(going)
	w.await(t, pod, "stopped", func(p *corev1.Pod) bool { return p.Annotations[schema.StoppedAnnotation] != "" })
	took = time.Since(began)
	w.commit(registry.Delete(schema.BindingPath(w.name, schema.KeyOf(pod))))
	return took
}

// file is one of the machine's that pods reach as "DIR".
func (w *world) file(name string) string { return filepath.Join(w.dir, "h", name) }
