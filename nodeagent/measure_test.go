package nodeagent

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/logs"
	"github.com/evenkeel/evenkeel/nodeagent/pressure"
	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/nodeagent/runtime/fake"
	"github.com/evenkeel/evenkeel/nodeagent/volume"
)

// TestMeter measures a pod of which the machine has an emptyDir, and the other
// sources say what they have.
func TestMeter(t *testing.T) {
	dir := t.TempDir()
	volumes, err := volume.New(volume.Config{Dir: filepath.Join(dir, "pods"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	pod := newPod("a", "main")
	pod.Spec.Volumes = []corev1.Volume{
		{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: "memory", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}},
	}
	scratch := volumes.Dir(string(pod.UID), "scratch")
	if err := os.MkdirAll(scratch, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(scratch, "file"), make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	sizes := func(logs.Container) (bytes, inodes int64) { return 7 << 10, 2 }
	a := &agent{cfg: Config{Volumes: volumes, Runtime: diskRuntime{fake.New()}, LogSize: sizes}, machine: machine{cgroupRoot: "/evenkeel-none"}}
	containers := []rt.Status{{ID: "0", Name: "main", State: rt.Exited}, {ID: "1", Name: "main", State: rt.Running}}
	got, err := (&meter{agent: a}).Usage(t.Context(), pod, containers)
	if err != nil {
		t.Fatal(err)
	}
	want := pressure.ContainerUsage{Rootfs: pressure.Disk{Bytes: 2000, Inodes: 10}, Logs: pressure.Disk{Bytes: 7 << 10, Inodes: 2}}
	if got.Containers["main"] != want {
		t.Errorf("container uses %+v, want %+v", got.Containers["main"], want)
	}
	if v := got.Volumes["scratch"]; v.Bytes < 1<<20 || v.Bytes > 2<<20 || v.Inodes != 2 || len(got.Volumes) != 1 {
		t.Errorf("volumes use %+v", got.Volumes)
	}
}

// diskRuntime says the same of every container.
type diskRuntime struct{ *fake.Runtime }

func (diskRuntime) DiskUsage(context.Context, string) (rt.DiskUsage, error) {
	return rt.DiskUsage{Bytes: 1000, Inodes: 5}, nil
}
