package nodeagent

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/nodeagent/network"
	"github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/schema"
)

func TestExpand(t *testing.T) {
	env := func(name string) (string, bool) {
		value, ok := map[string]string{"A": "1", "B": "$(A)", "EMPTY": ""}[name]
		return value, ok
	}
	for in, want := range map[string]string{
		"": "", "plain": "plain", "$(A)": "1", "x$(A)y$(A)": "x1y1", "$(B)": "$(A)", "$(EMPTY)": "", "$(NONE)": "$(NONE)",
		"$$(A)": "$(A)", "$$$(A)": "$1", "$$$$(A)": "$$(A)", "$": "$", "$(": "$(", "$(A": "$(A", "$A": "$A", "$()": "$()", "$(A$(A))": "$(A$(A))", "$)": "$)", "50$": "50$",
	} {
		if got := Expand(in, env); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestCommandLine(t *testing.T) {
	image := runtime.Image{Entrypoint: []string{"/ep"}, Cmd: []string{"cmd"}}
	env := map[string]string{"A": "1"}
	tests := []struct {
		name          string
		command, args []string
		want          string
	}{
		{"image's", nil, nil, "/ep cmd"},
		{"args replace cmd", nil, []string{"x"}, "/ep x"},
		{"command replaces both", []string{"/c"}, nil, "/c"},
		{"both", []string{"/c"}, []string{"x"}, "/c x"},
		{"expanded", []string{"/c"}, []string{"$(A)", "$(PATH)", "$$(A)"}, "/c 1 $(PATH) $(A)"},
	}
	for _, test := range tests {
		got := strings.Join(commandLine(&corev1.Container{Command: test.command, Args: test.args}, image, env), " ")
		if got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	local := func(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }
	yes := true
	refs := &bindings{refs: map[schema.Key]schema.Object{
		schema.ConfigMaps.Key("default", "cm"): &corev1.ConfigMap{Data: map[string]string{"COLOUR": "red", "SIZE": "1"}},
		schema.Secrets.Key("default", "s"):     &corev1.Secret{Data: map[string][]byte{"KEY": []byte("k")}},
	}}
	pod := newPod("p", "a")
	pod.Labels = map[string]string{"app": "shop"}
	field := func(path string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
	}
	c := &corev1.Container{
		EnvFrom: []corev1.EnvFromSource{
			{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: local("cm")}},
			{Prefix: "S_", SecretRef: &corev1.SecretEnvSource{LocalObjectReference: local("s")}},
			{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: local("none"), Optional: &yes}},
		},
		Env: []corev1.EnvVar{
			{Name: "SIZE", Value: "2"},
			{Name: "SUM", Value: "$(COLOUR)-$(SIZE)-$(LATER)-$(IMAGE)"},
			{Name: "LATER", Value: "x"},
			{Name: "IP", ValueFrom: field("status.podIP")},
			{Name: "NODE", ValueFrom: field("spec.nodeName")},
			{Name: "APP", ValueFrom: field("metadata.labels['app']")},
			{Name: "GONE", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: local("cm"), Key: "none", Optional: &yes}}},
			{Name: "SECRET", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: local("s"), Key: "KEY"}}},
		},
	}
	got, _, err := environment(pod, c, []string{"PATH=/bin", "IMAGE=yes"}, sources{refs: references{bindings: refs}, facts: podFacts{podIP: "10.1.0.2", node: "n1"}})
	want := []string{"APP=shop", "COLOUR=red", "HOSTNAME=p", "IMAGE=yes", "IP=10.1.0.2", "LATER=x", "NODE=n1", "PATH=/bin", "SECRET=k", "SIZE=2", "SUM=red-2-$(LATER)-$(IMAGE)", "S_KEY=k"}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	for name, bad := range map[string]corev1.Container{
		`configmap "none" not found`:              {EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: local("none")}}}},
		`env X: secret "none" not found`:          {Env: []corev1.EnvVar{{Name: "X", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: local("none")}}}}},
		`env X: key in configmap cm "k" not foun`: {Env: []corev1.EnvVar{{Name: "X", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: local("cm"), Key: "k"}}}}},
	} {
		if _, _, err := environment(pod, &bad, nil, sources{refs: references{bindings: refs}}); !errors.Is(err, errConfig) || !strings.HasPrefix(err.Error(), name) {
			t.Errorf("got %v, want %s", err, name)
		}
	}
}

func TestMounts(t *testing.T) {
	pod := newPod("p", "a")
	pod.Spec.Volumes = []corev1.Volume{{Name: "cm", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{}}}, {Name: "tmp"}}
	p := prepared{
		volumes: map[string]string{"cm": "/v/cm", "tmp": "/v/tmp"},
		files:   []runtime.Mount{{Source: "/f/hosts", Destination: "/etc/hosts"}, {Source: "/f/resolv", Destination: "/etc/resolv.conf"}},
	}
	c := &corev1.Container{Name: "a", VolumeMounts: []corev1.VolumeMount{
		{Name: "tmp", MountPath: "/data/deep/er"}, {Name: "tmp", MountPath: "/data/"}, {Name: "cm", MountPath: "/etc/hosts", SubPath: "hosts"}, {Name: "tmp", MountPath: "/etc", ReadOnly: true},
	}}
	sub := func(_, volumePath, subPath string) (string, error) { return volumePath + "/" + subPath, nil }
	got, err := mountsFor(pod, c, p, nil, sub)
	want := []runtime.Mount{
		{Source: "/v/tmp", Destination: "/data"},
		{Source: "/v/tmp", Destination: "/etc", ReadOnly: true},
		{Source: "/f/resolv", Destination: "/etc/resolv.conf"},
		{Source: "/v/cm/hosts", Destination: "/etc/hosts", ReadOnly: true},
		{Source: "/v/tmp", Destination: "/data/deep/er"},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if _, err := mountsFor(pod, &corev1.Container{VolumeMounts: []corev1.VolumeMount{{Name: "none", MountPath: "/x"}}}, p, nil, sub); !errors.Is(err, errConfig) {
		t.Errorf("unknown volume: %v", err)
	}
}

func TestContainerFor(t *testing.T) {
	group, user := int64(7), int64(1000)
	pod := newPod("p", "a")
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: &group, RunAsUser: &user}
	c := &pod.Spec.Containers[0]
	c.Resources = corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("250m"), corev1.ResourceMemory: resource.MustParse("1Gi")},
		Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m"), corev1.ResourceMemory: resource.MustParse("2Gi")},
	}
	m := machine{node: "n1", hostIP: "192.168.0.1", cgroupRoot: "/evenkeel/n1", memory: 4 << 30}
	image := runtime.Image{Ref: "docker.io/library/app:1", Cmd: []string{"/app"}, WorkingDir: "/srv"}
	p := prepared{sandbox: network.Sandbox{IP: netip.MustParseAddr("10.1.0.2"), NetNS: "/ns/net", IPCNS: "/ns/ipc", UTSNS: "/ns/uts"}}
	got, err := m.containerFor(pod, c, 2, image, p, references{bindings: &bindings{}}, nil)
	want := runtime.Container{
		ID: "uid-p-a-2", Pod: runtime.PodRef{UID: "uid-p", Namespace: "default", Name: "p"}, Name: "a", Attempt: 2, SpecHash: SpecHash(c), Image: "docker.io/library/app:1",
		Args: []string{"/app"}, Env: []string{"HOSTNAME=p", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, WorkingDir: "/srv",
		Namespaces: runtime.Namespaces{Net: "/ns/net", IPC: "/ns/ipc", UTS: "/ns/uts"}, Hostname: "p", CgroupParent: "/evenkeel/n1/poduid-p",
		PodResources: runtime.Resources{CPUShares: 256, CPUQuota: 50000, CPUPeriod: 100000, MemoryLimit: 2 << 30},
		Resources:    runtime.Resources{CPUShares: 256, CPUQuota: 50000, CPUPeriod: 100000, MemoryLimit: 2 << 30, OOMScoreAdj: 750},
		Security:     runtime.Security{RunAsUser: &user, SupplementalGroups: []int64{7}},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if _, err := m.containerFor(pod, c, 0, runtime.Image{}, p, references{bindings: &bindings{}}, nil); !errors.Is(err, errConfig) {
		t.Errorf("no command: %v", err)
	}
}

func TestContainerID(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "01234567-89ab-cdef-0123-456789abcdef"}}
	long := strings.Repeat("x", 62)
	a, b := ContainerID(pod, long+"a", 100), ContainerID(pod, long+"b", 100)
	if len(a) > maxContainerID || a == b {
		t.Errorf("%s (%d bytes) and %s", a, len(a), b)
	}
}

func TestRefersTo(t *testing.T) {
	pod := newPod("p", "a")
	pod.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "X", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}}}}}
	pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}}}}}
	for key, want := range map[schema.Key]bool{
		schema.Secrets.Key("default", "s"): true, schema.ConfigMaps.Key("default", "cm"): true,
		schema.ConfigMaps.Key("default", "s"): false, schema.Secrets.Key("other", "s"): false,
	} {
		if got := refersTo(pod, map[schema.Key]bool{key: true}); got != want {
			t.Errorf("%s: %t", key, got)
		}
	}
}
