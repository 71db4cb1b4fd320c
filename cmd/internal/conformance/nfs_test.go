package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/testdata/requires"
)

// deadServer: a pod whose NFS server has died waits and says so, others start
// as ever, and it goes when it is told to. A file system that never answers
// stands for the share, mounted as if by an earlier agent.
func deadServer(t *testing.T, w *world) {
	device, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		requires.Unmet(t, "there is no file system here that does not answer: "+err.Error())
	}
	t.Cleanup(func() { _ = device.Close() })
	pod := w.pod(t, "dead-server", `
volumes: [{name: films, nfs: {server: nas.invalid, path: /films}}]
containers:
- {name: main, image: IMAGE, args: [sleep], volumeMounts: [{name: films, mountPath: /films, subPath: part}]}
- {name: other, image: IMAGE, args: [sleep]}
`)
	share := filepath.Join(w.dir, "d", "pods", w.name, string(pod.UID), "volumes", "films")
	if err := os.MkdirAll(share, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("dead", share, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", device.Fd())); err != nil {
		t.Fatal(err)
	}
	w.run(t, pod, "waiting for its server", func(p *corev1.Pod) bool {
		return waits("main", "CreateContainerConfigError", "volume films: its server does not answer")(p) && status(p, "other").State.Running != nil
	})
	w.wantWarning(t, pod, "Failed: ", "its server does not answer")
	began := time.Now()
	for i := range 3 {
		quick := w.pod(t, fmt.Sprintf("beside-dead-server-%d", i), "containers: [{name: main, image: IMAGE, args: [sleep]}]\n")
		w.run(t, quick, "ready", ready)
		w.delete(t, quick, 0)
	}
	if took := time.Since(began); took > limit {
		t.Errorf("three other pods took %v", took)
	}
	w.delete(t, pod, 0)
}

// noServer: a share that cannot be mounted keeps its pod waiting, with what to
// do about it.
func noServer(t *testing.T, w *world) {
	pod := w.pod(t, "no-server", `
volumes: [{name: films, nfs: {server: 127.0.0.1, path: /films}}]
containers: [{name: main, image: IMAGE, args: [sleep], volumeMounts: [{name: films, mountPath: /films}]}]
`)
	w.bind(pod)
	advice := "mount.nfs is not on this node: install nfs-common"
	if _, err := os.Stat("/sbin/mount.nfs"); err == nil {
		advice = "nfs 127.0.0.1:/films: " // what it says depends on the kernel
	}
	w.wantWarning(t, pod, "FailedMount: ", "volume films: ", advice)
	w.delete(t, pod, 0)
}
