package conformance

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/schema"
)

const (
	smallDisk = 192 << 20 // what a node needs for its images, and some
	logSize   = 256 << 10
	logFiles  = 3
)

// TestTrouble has pods that go wrong in all sorts of ways on one node with a
// small disk: each suffers alone, and is told what to do.
func TestTrouble(t *testing.T) {
	need(t)
	dir := place(t)
	if err := unix.Mount("evenkeel-test", dir, "tmpfs", 0, fmt.Sprintf("size=%d", smallDisk)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount the small disk: %v", err)
		}
	})
	w := startIn(t, dir, "--pod-max-pids=60", fmt.Sprintf("--log-max-size=%d", logSize), fmt.Sprintf("--log-max-files=%d", logFiles))
	if err := os.MkdirAll(w.file(""), 0o777); err != nil {
		t.Fatal(err)
	}
	witness := w.pod(t, "witness", `
containers:
- name: main
  image: IMAGE
  args: [serve, "8080"]
  readinessProbe: {periodSeconds: 1, failureThreshold: 3, timeoutSeconds: 5, httpGet: {port: 8080, httpHeaders: [{name: Lamp, value: lit}]}}
  livenessProbe: {periodSeconds: 2, failureThreshold: 5, timeoutSeconds: 5, exec: {command: [/tool, has, /tool]}}
`)
	before := stable(w.run(t, witness, "ready", ready))
	t.Run("all", func(t *testing.T) {
		for name, test := range map[string]func(*testing.T, *world){
			"cannot start": cannotStart, "forks for ever": forksForEver, "floods its log": floodsItsLog,
			"dead server": deadServer, "no server": noServer,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, w)
			})
		}
	})
	t.Run("disk full", func(t *testing.T) { diskFull(t, w) })
	t.Run("agent restarted", func(t *testing.T) { agentRestarted(t, w) })
	after := w.await(t, witness, "known", func(*corev1.Pod) bool { return true })
	if diff := cmp.Diff(before, stable(after)); diff != "" {
		t.Errorf("a pod that has nothing to do with it (-before +after):\n%s", diff)
	}
	w.delete(t, witness, 0)
}

// stable is what must not change of a pod that runs well.
func stable(pod *corev1.Pod) string {
	c := status(pod, "main")
	text := fmt.Sprintln(pod.Status.Phase, c.ContainerID, c.RestartCount)
	for _, c := range pod.Status.Conditions {
		text += fmt.Sprintln(c.Type, c.Status, c.LastTransitionTime)
	}
	return text
}

// cannotStart: what keeps a pod from starting is said, with what to do.
func cannotStart(t *testing.T, w *world) {
	if err := os.WriteFile(w.file("file"), []byte("no program"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		spec  string
		wants []string
	}{
		"path-missing": {
			`{volumes: [{name: v, hostPath: {path: DIR/none, type: Directory}}], containers: [{name: main, image: IMAGE, args: [sleep]}]}`,
			[]string{"FailedMount", "/h/none does not exist: make the directory on this node, or use type DirectoryOrCreate"},
		},
		"path-of-another-sort": {
			`{volumes: [{name: v, hostPath: {path: DIR/file, type: Socket}}], containers: [{name: main, image: IMAGE, args: [sleep]}]}`,
			[]string{"FailedMount", "/h/file is not a socket: change path or type"},
		},
		"command-missing": {
			`{containers: [{name: main, image: IMAGE, command: [/none]}]}`,
			[]string{"Failed", `"/none"`, "the image has no such program, check the container's command"},
		},
		"command-not-in-path": {
			`{containers: [{name: main, image: IMAGE, command: [none]}]}`,
			[]string{"Failed", `"none"`, "the image has no such program, check the container's command"},
		},
		"command-no-program": {
			`{volumes: [{name: v, hostPath: {path: DIR/file, type: File}}], containers: [{name: main, image: IMAGE, command: [/file], volumeMounts: [{name: v, mountPath: /file}]}]}`,
			[]string{"Failed", `"/file"`, "is not executable"},
		},
		"directory-missing": {
			`{containers: [{name: main, image: IMAGE, args: [sleep], workingDir: /tool/x}]}`,
			[]string{"Failed", "/tool"},
		},
		"image-missing": {
			`{containers: [{name: main, image: "127.0.0.1:9/none:1", args: [sleep]}]}`,
			[]string{"Failed", "127.0.0.1:9/none:1", "does not answer"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod := w.pod(t, name, tc.spec)
			w.bind(pod)
			w.wantWarning(t, pod, tc.wants...)
			w.delete(t, pod, 0)
		})
	}
}

// wantWarning waits until one warning about a pod says all of some things.
func (w *world) wantWarning(t *testing.T, pod *corev1.Pod, wants ...string) {
	t.Helper()
	var said []string
	w.until(t, func() bool {
		said = w.warnings(t, pod)
		for _, text := range said {
			all := true
			for _, want := range wants {
				all = all && strings.Contains(text, want)
			}
			if all {
				return true
			}
		}
		return false
	}, func() string {
		return fmt.Sprintf("pod %s: nobody said %q:\n%s", pod.Name, wants, strings.Join(said, "\n"))
	})
}

// warnings are the reasons and messages of a pod's warnings.
func (w *world) warnings(t *testing.T, pod *corev1.Pod) []string {
	t.Helper()
	kvs, _, err := w.store.List(t.Context(), schema.Events.Key(pod.Namespace, "").Path(), 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, kv := range kvs {
		obj, err := schema.DecodeObject(kv.Value)
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := obj.(*corev1.Event); ok && e.InvolvedObject.UID == pod.UID && e.Type == corev1.EventTypeWarning {
			out = append(out, e.Reason+": "+e.Message)
		}
	}
	return out
}

// forksForEver: the pod's limit stops it, and it can be removed.
func forksForEver(t *testing.T, w *world) {
	pod := w.pod(t, "forks", `{containers: [{name: main, image: IMAGE, args: [fork]}]}`)
	w.bind(pod)
	w.wantLog(t, pod, "main", "stopped after", "resource temporarily unavailable")
	if took := w.delete(t, pod, 0); took > 25*time.Second { // not the pod's own 30 s
		t.Errorf("removed after %v", took)
	}
}

// floodsItsLog: the log keeps its bound, whose size is that of its files and of
// one more that is being compressed.
func floodsItsLog(t *testing.T, w *world) {
	pod := w.pod(t, "floods", `{containers: [{name: main, image: IMAGE, args: [flood]}]}`)
	w.bind(pod)
	dir := filepath.Join(w.dir, "l", pod.Namespace+"_"+pod.Name+"_"+string(pod.UID), "main")
	most, rotated := int64(0), map[string]bool{}
	w.until(t, func() bool {
		size := int64(0)
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return nil
			}
			if info, err := d.Info(); err == nil {
				size += info.Size()
				rotated[path] = true
			}
			return nil
		})
		most = max(most, size)
		return len(rotated) > 10
	}, func() string { return fmt.Sprintf("the log was not rotated ten times: %v", rotated) })
	if bound := int64(logSize * (logFiles + 2)); most > bound {
		t.Errorf("its log was %d bytes, want at most %d", most, bound)
	}
	w.delete(t, pod, 0)
}

// diskFull: somebody else fills the node's disk. What runs goes on and can be
// removed, what is to start says why it does not, and starts when there is room.
func diskFull(t *testing.T, w *world) {
	going := w.pod(t, "going", `{containers: [{name: main, image: IMAGE, args: [sleep]}]}`)
	w.run(t, going, "ready", ready)
	talks := w.pod(t, "talks", `{containers: [{name: main, image: IMAGE, args: [talk]}]}`)
	w.wantLog(t, w.run(t, talks, "ready", ready), "main", "line 100 ")
	filler := filepath.Join(w.dir, "filler")
	fill(t, filler)
	waiting := w.pod(t, "waiting", `
volumes: [{name: v, configMap: {name: big}}]
containers: [{name: main, image: IMAGE, args: [sleep], volumeMounts: [{name: v, mountPath: /v}]}]
`)
	big := &corev1.ConfigMap{Data: map[string]string{"a": strings.Repeat("x", 100_000)}}
	big.Namespace, big.Name = waiting.Namespace, "big"
	w.bind(big, waiting)
	w.wantWarning(t, waiting, "no space left on device", "free space")
	w.delete(t, going, 0)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	w.await(t, waiting, "ready", ready)
	w.delete(t, waiting, 0)
	freed := w.lastLine(t, talks)
	w.until(t, func() bool { return w.lastLine(t, talks) > freed+1000 }, func() string {
		return fmt.Sprintf("what a container says when the disk has room again is not heard: line %d", w.lastLine(t, talks))
	})
	w.delete(t, talks, 0)
}

// lastLine is the number of the last line that a pod which talks has said.
func (w *world) lastLine(t *testing.T, pod *corev1.Pod) (number int) {
	t.Helper()
	log := w.log(t, pod, "main")
	_, _ = fmt.Sscanf(log[max(0, strings.LastIndex(log, "line ")):], "line %d", &number)
	return number
}

// fill writes to a file until there is no room for more.
func fill(t *testing.T, path string) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil && !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	if err != nil {
		return
	}
	defer file.Close()
	for size := 1 << 20; size > 0; {
		if _, err := file.Write(make([]byte, size)); errors.Is(err, unix.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
