package pressure

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
)

const mi = 1 << 20

func TestParse(t *testing.T) {
	got, err := Parse(Settings{
		Hard: "nodefs.available<10%, memory.available<100Mi,imagefs.available<0%", Soft: "memory.available<1Gi",
		SoftGrace: "memory.available=1m30s", MinReclaim: "nodefs.available=500Mi",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []Threshold{
		{Signal: MemoryAvailable, Amount: Amount{Value: 100 * mi}},
		{Signal: NodeFSAvailable, Amount: Amount{Share: 0.1}, MinReclaim: Amount{Value: 500 * mi}},
		{Signal: MemoryAvailable, Amount: Amount{Value: 1024 * mi}, Grace: 90 * time.Second},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got, err := Parse(Settings{}); err != nil || len(got) != 0 {
		t.Errorf("nothing is %v, %v", got, err)
	}
	if got, err := Parse(Settings{Hard: DefaultHard}); err != nil || len(got) != 5 {
		t.Errorf("the default is %v, %v", got, err)
	}
	for _, bad := range []Settings{
		{Hard: "memory<1Gi"},
		{Hard: "memory.available=1Gi"},
		{Hard: "memory.available<lots"},
		{Hard: "memory.available<-1Gi"},
		{Hard: "memory.available<101%"},
		{Hard: "memory.available<1Gi,memory.available<2Gi"},
		{Soft: "memory.available<1Gi"},
		{Soft: "memory.available<1Gi", SoftGrace: "memory.available=soon"},
		{MinReclaim: "disk=1"},
		{Hard: "containerfs.available<10%"},
	} {
		if got, err := Parse(bad); err == nil {
			t.Errorf("%+v: got %v", bad, got)
		}
	}
	for signal, use := range map[string]string{
		"containerfs.available": "use imagefs.available", "containerfs.inodesFree": "use imagefs.inodesFree", "allocatableMemory.available": "use memory.available",
	} {
		if _, err := Parse(Settings{Soft: signal + "<10%"}); err == nil || !strings.HasSuffix(err.Error(), use) {
			t.Errorf("%s: %v, want to be told to %s", signal, err, use)
		}
	}
}

// TestMonitor goes through a day of a node.
func TestMonitor(t *testing.T) {
	thresholds, err := Parse(Settings{
		Hard: "memory.available<100,nodefs.available<10%", Soft: "memory.available<300", SoftGrace: "memory.available=30s", MinReclaim: "nodefs.available=5",
	})
	if err != nil {
		t.Fatal(err)
	}
	hardMemory, disk, softMemory := thresholds[0], thresholds[1], thresholds[2]
	memory, diskful := corev1.NodeMemoryPressure, corev1.NodeDiskPressure
	m := NewMonitor(thresholds, 5*time.Minute)
	start := time.Unix(0, 0)
	for _, step := range []struct {
		at           time.Duration
		memory, disk int64 // available of 1000
		want         Verdict
	}{
		{0, 500, 500, Verdict{}},
		{10 * time.Second, 200, 500, Verdict{Conditions: []corev1.NodeConditionType{memory}}},
		{30 * time.Second, 200, 500, Verdict{Conditions: []corev1.NodeConditionType{memory}}},
		{40 * time.Second, 200, 500, Verdict{Conditions: []corev1.NodeConditionType{memory}, Act: []Threshold{softMemory}}},
		{50 * time.Second, 50, 99, Verdict{Conditions: []corev1.NodeConditionType{diskful, memory}, Act: []Threshold{hardMemory, softMemory, disk}}},
		{60 * time.Second, 400, 102, Verdict{Conditions: []corev1.NodeConditionType{diskful, memory}, Act: []Threshold{disk}}}, // not yet 5 more
		{70 * time.Second, 400, 105, Verdict{Conditions: []corev1.NodeConditionType{diskful, memory}}},
		{349 * time.Second, 400, 500, Verdict{Conditions: []corev1.NodeConditionType{diskful, memory}}},
		{350 * time.Second, 400, 500, Verdict{Conditions: []corev1.NodeConditionType{diskful}}},
		{360 * time.Second, 400, 500, Verdict{}},
		{370 * time.Second, 200, 500, Verdict{Conditions: []corev1.NodeConditionType{memory}}}, // its grace begins anew
		{399 * time.Second, 200, 500, Verdict{Conditions: []corev1.NodeConditionType{memory}}},
	} {
		got := m.Look(Observations{MemoryAvailable: {step.memory, 1000}, NodeFSAvailable: {step.disk, 1000}}, start.Add(step.at))
		if diff := cmp.Diff(step.want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("after %v (-want +got):\n%s", step.at, diff)
		}
	}
	if m.Relieved(Observations{NodeFSAvailable: {104, 1000}}) || !m.Relieved(Observations{NodeFSAvailable: {105, 1000}}) {
		t.Error("relief is not with what must be reclaimed")
	}
	if got := Kept(thresholds, NodeFSAvailable, 1000); got != 100 {
		t.Errorf("%d of the disk is kept", got)
	}
	if got := Kept(thresholds, PIDAvailable, 1000); got != 0 {
		t.Errorf("%d process IDs are kept", got)
	}
	if got := NewMonitor(thresholds, 0).Look(Observations{}, start); len(got.Act) > 0 {
		t.Errorf("nothing known leads to %v", got.Act)
	}
}

// pod asks for memory and ephemeral storage and uses them, in Mi.
func pod(name string, priority int32, ask, use int64) Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}}
	p.Spec.Priority = &priority
	c := corev1.Container{Name: "c"}
	if ask > 0 {
		q := *resource.NewQuantity(ask*mi, resource.BinarySI)
		c.Resources.Requests = corev1.ResourceList{corev1.ResourceMemory: q, corev1.ResourceEphemeralStorage: q}
	}
	p.Spec.Containers = []corev1.Container{c}
	return Pod{p, &Usage{Memory: use * mi, Processes: use, Containers: map[string]ContainerUsage{
		"c": {Memory: use * mi, Rootfs: Disk{Bytes: use * mi, Inodes: use}},
	}}}
}

func TestRank(t *testing.T) {
	unknown := pod("unknown", 9, 0, 0)
	unknown.Usage = nil
	pods := []Pod{
		pod("modest", -5, 50, 10), pod("frugal", 0, 50, 40), pod("greedy", 0, 10, 60), pod("important", 10, 10, 500),
		pod("besteffort", 0, 0, 30), unknown,
	}
	memory := []string{"unknown", "greedy", "besteffort", "important", "modest", "frugal"}
	for signal, want := range map[Signal][]string{
		MemoryAvailable:  memory,
		NodeFSAvailable:  memory, // the same figures
		ImageFSAvailable: memory,
		NodeFSInodesFree: {"unknown", "modest", "greedy", "frugal", "besteffort", "important"}, // nobody asks for inodes
		PIDAvailable:     {"modest", "greedy", "frugal", "besteffort", "unknown", "important"},
	} {
		var got []string
		for _, p := range Rank(pods, signal, false) {
			got = append(got, p.Name)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", signal, diff)
		}
	}
}

// With a file system of its own for images, what containers write to theirs
// counts only there, and logs and volumes only on the other.
func TestRankWhereItCounts(t *testing.T) {
	writer, logger := pod("writer", 0, 0, 50), pod("logger", 0, 0, 1)
	logger.Usage.Containers["c"] = ContainerUsage{Logs: Disk{Bytes: 20 * mi}}
	keeper := pod("keeper", 0, 0, 0)
	keeper.Usage.Volumes = map[string]Disk{"v": {Bytes: 30 * mi}}
	for signal, want := range map[Signal]string{NodeFSAvailable: "keeper", ImageFSAvailable: "writer"} {
		if got := Rank([]Pod{logger, writer, keeper}, signal, true)[0].Name; got != want {
			t.Errorf("%s: %s goes first, want %s", signal, got, want)
		}
	}
	if got := Rank([]Pod{logger, writer, keeper}, NodeFSAvailable, false)[0].Name; got != "writer" {
		t.Errorf("on one file system %s goes first", got)
	}
}

// Whatever the pods are: ranking keeps them all, no pod within its request
// goes before one over it, and among equals the lower priority goes first,
// then the larger excess.
func TestRankProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var pods []Pod
		for range rapid.IntRange(0, 8).Draw(t, "pods") {
			pods = append(pods, pod(rapid.StringMatching(`[a-z]{4}`).Draw(t, "name"), rapid.Int32Range(-1, 2).Draw(t, "priority"),
				rapid.Int64Range(0, 3).Draw(t, "ask"), rapid.Int64Range(0, 4).Draw(t, "use")))
		}
		ranked := Rank(slices.Clone(pods), MemoryAvailable, false)
		if len(ranked) != len(pods) {
			t.Fatalf("%d pods became %d", len(pods), len(ranked))
		}
		for i := 1; i < len(ranked); i++ {
			a, b := ranked[i-1], ranked[i]
			ea, eb := excess(a, MemoryAvailable, false), excess(b, MemoryAvailable, false)
			switch {
			case ea <= 0 && eb > 0:
				t.Fatalf("%s, within its request, goes before %s", a.Name, b.Name)
			case (ea > 0) != (eb > 0):
			case *a.Spec.Priority > *b.Spec.Priority:
				t.Fatalf("%s goes before %s of lower priority", a.Name, b.Name)
			case *a.Spec.Priority == *b.Spec.Priority && ea < eb:
				t.Fatalf("%s goes before %s, which uses more", a.Name, b.Name)
			}
		}
	})
}

func TestEvict(t *testing.T) {
	o := Observations{MemoryAvailable: {50 * mi, 1000 * mi}, NodeFSAvailable: {1 * mi, 100 * mi}}
	hard, _ := Parse(Settings{Hard: "memory.available<100Mi,nodefs.available<10%"})
	soft, _ := Parse(Settings{Soft: "memory.available<100Mi", SoftGrace: "memory.available=1m"})
	p := pod("p", 0, 10, 64)
	patient := int64(20)
	slow := pod("slow", 0, 0, 1)
	slow.Spec.TerminationGracePeriodSeconds = &patient
	for name, tc := range map[string]struct {
		pod  Pod
		act  []Threshold
		want Eviction
	}{
		"memory": {p, hard, Eviction{Grace: time.Second, Disrupted: true, Message: "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. " +
			"Container c was using 64Mi, request is 10Mi, has larger consumption of memory. "}},
		"disk": {p, hard[1:], Eviction{Grace: time.Second, Disrupted: true, Message: "The node was low on resource: ephemeral-storage. Threshold quantity: 10Mi, available: 1Mi. " +
			"Container c was using 64Mi, request is 10Mi, has larger consumption of ephemeral-storage. "}},
		"soft": {slow, soft, Eviction{Grace: 20 * time.Second, Disrupted: true, Message: "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. " +
			"Container c was using 1Mi, request is 0, has larger consumption of memory. "}},
	} {
		if diff := cmp.Diff(tc.want, Evict(tc.pod, tc.act, o, 30*time.Second), cmpopts.IgnoreFields(Eviction{}, "Advice")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if got := Evict(slow, soft, o, 0).Grace; got != 0 {
		t.Errorf("with no grace allowed it has %v", got)
	}
}

func TestOverLimit(t *testing.T) {
	limited := func(change func(*corev1.Pod, *Usage)) Pod {
		p := pod("p", 0, 0, 2)
		change(p.Pod, p.Usage)
		return p
	}
	limit := func(q string) corev1.ResourceRequirements {
		return corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse(q)}}
	}
	emptyDir := func(p *corev1.Pod, medium corev1.StorageMedium) {
		size := resource.MustParse("1Mi")
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: medium, SizeLimit: &size}}}}
	}
	for name, tc := range map[string]struct {
		pod      Pod
		separate bool
		want     string
	}{
		"no limit": {limited(func(*corev1.Pod, *Usage) {}), false, ""},
		"emptyDir": {limited(func(p *corev1.Pod, u *Usage) {
			emptyDir(p, "")
			u.Volumes = map[string]Disk{"v": {Bytes: mi + 1}}
		}), false, `Usage of EmptyDir volume "v" exceeds the limit "1Mi". `},
		"emptyDir full": {limited(func(p *corev1.Pod, u *Usage) {
			emptyDir(p, "")
			u.Volumes = map[string]Disk{"v": {Bytes: mi}}
		}), false, ""},
		"in memory": {limited(func(p *corev1.Pod, u *Usage) {
			emptyDir(p, corev1.StorageMediumMemory)
			u.Volumes = map[string]Disk{"v": {Bytes: 2 * mi}}
		}), false, ""},
		"all together": {limited(func(p *corev1.Pod, u *Usage) {
			p.Spec.Containers[0].Resources = limit("3Mi")
			u.Volumes = map[string]Disk{"v": {Bytes: 2 * mi}}
		}), false, "Pod ephemeral local storage usage exceeds the total limit of containers 3Mi. "},
		"container": {limited(func(p *corev1.Pod, u *Usage) {
			p.Spec.Containers[0].Resources = limit("1Mi")
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "d", Resources: limit("9Mi")})
		}), false, `Container c exceeded its local ephemeral storage limit "1Mi". `},
		"container, on the images' disk": {limited(func(p *corev1.Pod, u *Usage) {
			p.Spec.Containers[0].Resources = limit("1Mi")
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "d", Resources: limit("9Mi")})
		}), true, ""},
	} {
		got, over := OverLimit(tc.pod, tc.separate)
		if got.Message != tc.want || over != (tc.want != "") {
			t.Errorf("%s: %q, want %q", name, got.Message, tc.want)
		}
		if has := HasDiskLimits(tc.pod.Pod); tc.want != "" && !has {
			t.Errorf("%s: it would not be measured", name)
		}
	}
}

func TestAdmit(t *testing.T) {
	const best, burst = corev1.PodQOSBestEffort, corev1.PodQOSBurstable
	plain, critical, static, tolerant := pod("p", 0, 0, 0).Pod, pod("p", systemCritical, 0, 0).Pod, pod("p", 0, 0, 0).Pod, pod("p", 0, 0, 0).Pod
	static.Annotations = map[string]string{configSource: "file"}
	tolerant.Spec.Tolerations = []corev1.Toleration{{Key: corev1.TaintNodeMemoryPressure, Operator: corev1.TolerationOpExists}}
	memory, disk := []corev1.NodeConditionType{corev1.NodeMemoryPressure}, []corev1.NodeConditionType{corev1.NodeDiskPressure}
	both := []corev1.NodeConditionType{corev1.NodeMemoryPressure, corev1.NodePIDPressure}
	for _, tc := range []struct {
		name       string
		pod        *corev1.Pod
		class      corev1.PodQOSClass
		conditions []corev1.NodeConditionType
		want       bool
	}{
		{"at ease", plain, best, nil, true},
		{"best effort, memory", plain, best, memory, false},
		{"burstable, memory", plain, burst, memory, true},
		{"tolerant, memory", tolerant, best, memory, true},
		{"burstable, disk", plain, burst, disk, false},
		{"burstable, memory and processes", plain, burst, both, false},
		{"tolerant, both", tolerant, best, append(disk, memory...), false},
		{"critical, disk", critical, best, disk, true},
		{"static, disk", static, best, disk, true},
	} {
		e, got := Admit(tc.pod, tc.class, tc.conditions)
		if got != tc.want || !got && !strings.HasPrefix(e.Message, "The node had condition: [") {
			t.Errorf("%s: %v, %q", tc.name, got, e.Message)
		}
	}
}
