package nodeagent

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evenkeel/evenkeel/nodeagent/network"
	"github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/nodeagent/server"
	"github.com/evenkeel/evenkeel/nodeagent/stats"
	"github.com/evenkeel/evenkeel/schema"
)

// viewed is a view of one pod with a container "main".
func viewed(pod *corev1.Pod, status corev1.ContainerStatus, runs ...runtime.Status) View {
	a := &agent{bindings: &bindings{pods: map[string]*corev1.Pod{string(pod.UID): pod}}, publisher: newPublisher(nil, node, nil, nil)}
	a.observer = newObserver(nil, nil, nil, nil)
	for _, r := range runs {
		r.Pod.UID, r.Name = string(pod.UID), "main"
		r.ID = ContainerID(pod, "main", r.Attempt)
		put(a.observer.pods, r)
	}
	if status.Name != "" {
		a.publisher.publish(report{uid: pod.UID, status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{status}}})
	}
	return View{a}
}

// Whose log is shown follows the kubelet.
func TestViewRun(t *testing.T) {
	pod := newPod("a", "main")
	waiting := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}
	ended := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1}}
	state := func(now, last corev1.ContainerState, restarts int32) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: "main", State: now, LastTerminationState: last, RestartCount: restarts}
	}
	run := func(attempt int, s runtime.State) runtime.Status { return runtime.Status{Attempt: attempt, State: s} }
	for name, test := range map[string]struct {
		status   corev1.ContainerStatus
		runs     []runtime.Status
		previous bool
		attempt  int
		running  bool
		err      string
	}{
		"running":                     {runs: []runtime.Status{run(0, runtime.Running)}, running: true},
		"running again":               {runs: []runtime.Status{run(0, runtime.Exited), run(1, runtime.Running)}, attempt: 1, running: true},
		"before that":                 {runs: []runtime.Status{run(3, runtime.Running)}, previous: true, attempt: 2},
		"never before":                {runs: []runtime.Status{run(0, runtime.Running)}, previous: true, err: `previous terminated container "main" in pod "a" not found`},
		"crashed":                     {status: state(waiting, ended, 1), runs: []runtime.Status{run(1, runtime.Exited)}, attempt: 1},
		"crashed, and the one before": {status: state(waiting, ended, 1), runs: []runtime.Status{run(1, runtime.Exited)}, previous: true, attempt: 1},
		"ended, and the one before":   {status: state(ended, ended, 1), runs: []runtime.Status{run(1, runtime.Exited)}, previous: true, attempt: 0},
		"ended and removed":           {status: state(ended, corev1.ContainerState{}, 2), attempt: 2},
		"not started":                 {err: `container "main" in pod "a" is waiting to start: ContainerCreating`},
		"cannot start":                {status: state(corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull"}}, corev1.ContainerState{}, 0), err: `container "main" in pod "a" is waiting to start: ErrImagePull`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := viewed(pod, test.status, test.runs...).Run("default", "a", "", "main", test.previous)
			if test.err != "" {
				if err == nil || err.Error() != test.err {
					t.Fatalf("got %v, want %s", err, test.err)
				}
				return
			}
			if err != nil || got.Log.Attempt != test.attempt || got.Running != test.running || got.Log.ID != ContainerID(pod, "main", test.attempt) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
	v := viewed(pod, corev1.ContainerStatus{}, run(0, runtime.Running))
	for _, asked := range [][4]string{{"default", "a", "", "other"}, {"default", "b", "", "main"}, {"other", "a", "", "main"}, {"default", "a", "uid", "main"}} {
		if _, err := v.Run(asked[0], asked[1], asked[2], asked[3], false); !errors.Is(err, server.ErrNotFound) {
			t.Errorf("%v: %v", asked, err)
		}
	}
}

func TestView(t *testing.T) {
	pod := newPod("a", "main")
	pod.Spec.Volumes = []corev1.Volume{
		{Name: "disk", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: "ram", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}},
		{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}},
		{Name: "claimed", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}},
		{Name: "unbound", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "none"}}},
		{Name: "nas", VolumeSource: corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: "nas", Path: "/"}}},
	}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "data"}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "disk"}}
	disk := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "disk"}}
	disk.Spec.Local = &corev1.LocalVolumeSource{Path: "/mnt/disk"}
	v := viewed(pod, corev1.ContainerStatus{Name: "main", RestartCount: 3}, runtime.Status{State: runtime.Running, PID: 7})
	inWorld(t, func(w *world) { v.a.cfg.Volumes = w.volumes })
	v.a.machine.cgroupRoot = "/evenkeel/n1"
	v.a.bindings.refs = map[schema.Key]schema.Object{schema.KeyOf(claim): claim, schema.KeyOf(disk): disk}
	measured := v.Measured()
	if len(measured) != 1 || len(measured[0].Containers) != 1 || measured[0].Containers[0].Cgroup != "/evenkeel/n1/pod"+string(pod.UID)+"/"+ContainerID(pod, "main", 0) {
		t.Fatalf("measured: %+v", measured)
	}
	dir := func(name string) string { return v.a.cfg.Volumes.Dir(string(pod.UID), name) }
	want := []stats.Volume{
		{Name: "disk", Path: dir("disk"), Ephemeral: true},
		{Name: "ram", Path: dir("ram")},
		{Name: "claimed", Path: "/mnt/disk", Claim: "data", FileSystem: true},
		{Name: "nas", Path: dir("nas"), FileSystem: true, Remote: true},
	}
	if diff := cmp.Diff(want, measured[0].Volumes); diff != "" {
		t.Errorf("volumes (-want +got):\n%s", diff)
	}
	if list := v.List(); len(list.Items) != 1 || list.Items[0].Status.ContainerStatuses[0].RestartCount != 3 {
		t.Errorf("list: %+v", list)
	}
	if v.Trust() != nil {
		t.Error("trusts before it is told to")
	}
	trust := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: schema.BindingTrustName}, Data: map[string]string{"ca.crt": "pem"}}
	v.a.bindings.refs = map[schema.Key]schema.Object{schema.KeyOf(trust): trust}
	if string(v.Trust()) != "pem" || server.Organisation != schema.APIServerGroup {
		t.Errorf("trusts %q of %s", v.Trust(), server.Organisation)
	}
	v.a.publisher.publish(report{uid: pod.UID, stopped: true})
	if _, known := v.a.publisher.last(types.UID(pod.UID)); known {
		t.Error("the status of what has stopped is kept")
	}
}

// TestViewNetwork says where a pod's ports are: in its own network, or at the
// node's address.
func TestViewNetwork(t *testing.T) {
	own, hosts := newPod("a", "main"), newPod("b", "main")
	hosts.Spec.HostNetwork = true
	v := viewed(own, corev1.ContainerStatus{})
	v.a.bindings.pods[string(hosts.UID)] = hosts
	v.a.cfg.NodeIP = netip.MustParseAddr("192.168.0.1")
	net := &fakeNetwork{sandboxes: map[string]network.Sandbox{}}
	v.a.cfg.Network = net
	for _, test := range []struct{ name, netns, address, err string }{
		{"a", "", "invalid IP", `pod "a" has no network: it is not running`},
		{"a", "/ns/a", "10.0.0.5", ""},
		{"b", "", "192.168.0.1", ""},
		{"c", "", "invalid IP", `pod "default/c": not found`},
	} {
		if test.netns != "" {
			net.sandboxes["a"] = network.Sandbox{UID: string(own.UID), NetNS: test.netns, IP: netip.MustParseAddr(test.address)}
		}
		netns, address, err := v.Network("default", test.name, "")
		if netns != test.netns || address.String() != test.address || (err != nil || test.err != "") && (err == nil || err.Error() != test.err) {
			t.Errorf("%s: %q, %s, %v, want %+v", test.name, netns, address, err, test)
		}
	}
}
