package stats

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// TestClaims: a claimed volume is told of by its claim, with what its file
// system has in use, in the summary and in the kubelet's metrics; once, however
// many pods have it.
func TestClaims(t *testing.T) {
	dir := t.TempDir()
	claimed := func(pod string) Pod {
		return Pod{UID: pod, Namespace: "shop", Name: pod, Volumes: []Volume{
			{Name: "data", Path: dir, Claim: "films", FileSystem: true},
			{Name: "nas", Path: dir, Claim: "far", FileSystem: true, Remote: true},
			{Name: "gone", Path: dir + "/none", Claim: "gone", FileSystem: true, Remote: true},
		}}
	}
	c := &Collector{cfg: Config{Pods: func() []Pod { return []Pod{claimed("a"), claimed("b")} }}}
	local, ok := c.claims.get(Volume{Path: dir}, time.Now())
	if !ok {
		t.Fatal("not measured")
	}
	c.claims.ask(t.Context(), c.cfg.Pods(), time.Now())
	far, ok := c.claims.get(Volume{Path: dir, Remote: true}, time.Now())
	if !ok || far.Capacity != local.Capacity || far.Inodes != local.Inodes {
		t.Errorf("by a process of its own: %+v, want %+v", far, local)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(c.ClaimMetrics())
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				got[f.GetName()] += l.GetValue() + " "
			}
			if f.GetName() == "kubelet_volume_stats_capacity_bytes" && m.GetGauge().GetValue() != float64(local.Capacity) {
				t.Errorf("capacity %v, want %d", m.GetGauge().GetValue(), local.Capacity)
			}
		}
	}
	want := map[string]string{}
	for _, name := range []string{"capacity_bytes", "available_bytes", "used_bytes", "inodes", "inodes_free", "inodes_used"} {
		want["kubelet_volume_stats_"+name] = "shop far shop films "
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
	fs, err := parseStatFS("4096 100 60 70 50 20\n")
	system := FileSystem{Capacity: 409600, Available: 245760, Free: 286720, Inodes: 50, InodesFree: 20}
	if diff := cmp.Diff(system, fs, cmp.AllowUnexported(FileSystem{})); diff != "" || err != nil {
		t.Errorf("(-want +got):\n%s%v", diff, err)
	}
}
