package nodeagent

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/nodeagent/network"
	"github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/nodeagent/volume"
)

func TestAppArmor(t *testing.T) {
	lamp, blank := "lamp", " "
	standard := &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeRuntimeDefault}
	open := &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined}
	local := &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeLocalhost, LocalhostProfile: &lamp}
	nameless := &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeLocalhost, LocalhostProfile: &blank}
	for name, test := range map[string]struct {
		pod, own   *corev1.AppArmorProfile
		annotation string
		want       runtime.AppArmor
		without    string // why the pod is refused on a machine that has no AppArmor
		with       string // and on one that has it
	}{
		"nothing":                {},
		"pod":                    {pod: local, want: runtime.AppArmor{Required: true, Profile: "lamp"}, without: "AppArmor is not enabled on the host"},
		"default":                {own: standard, want: runtime.AppArmor{Required: true}, without: "AppArmor is not enabled on the host"},
		"unconfined":             {own: open, want: runtime.AppArmor{Unconfined: true}},
		"container before pod":   {pod: local, own: standard, want: runtime.AppArmor{Required: true}, without: "AppArmor is not enabled on the host"},
		"pod, container without": {pod: local, own: open, want: runtime.AppArmor{Unconfined: true}, without: "AppArmor is not enabled on the host"},
		"annotation":             {annotation: "localhost/lamp", want: runtime.AppArmor{Required: true, Profile: "lamp"}, without: "AppArmor is not enabled on the host"},
		"annotation before pod":  {pod: local, annotation: "unconfined", want: runtime.AppArmor{Unconfined: true}, without: "AppArmor is not enabled on the host"},
		"field before it":        {own: open, annotation: "runtime/default", want: runtime.AppArmor{Unconfined: true}},
		"no profile":             {pod: standard, annotation: "lamp", want: runtime.AppArmor{Required: true}, without: "AppArmor is not enabled on the host"},
		"no name": {
			own: nameless, want: runtime.AppArmor{Required: true, Profile: " "},
			without: "AppArmor is not enabled on the host", with: "invalid empty AppArmor profile name of container a",
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod("p", "a")
			pod.Spec.SecurityContext = &corev1.PodSecurityContext{AppArmorProfile: test.pod}
			pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{AppArmorProfile: test.own}
			if test.annotation != "" {
				pod.Annotations = map[string]string{"container.apparmor.security.beta.kubernetes.io/a": test.annotation}
			}
			if diff := cmp.Diff(test.want, securityOf(pod, &pod.Spec.Containers[0], "").AppArmor); diff != "" {
				t.Error(diff)
			}
			for enabled, want := range map[bool]string{false: test.without, true: test.with} {
				doom := doomOf(pod, Observed{AppArmor: enabled}, pod.CreationTimestamp.Time)
				if want == "" && doom != nil || want != "" && (doom == nil || doom.Reason != "AppArmor" || doom.Message != "Cannot enforce AppArmor: "+want) {
					t.Errorf("AppArmor %t: %+v, want %q", enabled, doom, want)
				}
			}
			running := Observed{Containers: []runtime.Status{{Name: "a", State: runtime.Running}}}
			if doom := doomOf(pod, running, pod.CreationTimestamp.Time); doom != nil {
				t.Errorf("a pod that runs is judged again: %+v", doom)
			}
		})
	}
}

// labels is a store with some claims.
type labels struct{ volume.Objects }

func (labels) Claim(_, name string) (*corev1.PersistentVolumeClaim, bool) {
	return &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{VolumeName: name}}, name != "none"
}

func (labels) Volume(name string) (*corev1.PersistentVolume, bool) {
	v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if name != "share" {
		v.Spec.Local = &corev1.LocalVolumeSource{}
	}
	return v, true
}

// TestKeepLabels: what is not the pod's own keeps its label, as with
// Kubernetes' volume plugins.
func TestKeepLabels(t *testing.T) {
	claim := func(name string, readOnly bool) corev1.VolumeSource {
		return corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name, ReadOnly: readOnly}}
	}
	pod := newPod("p", "a")
	var mounts []runtime.Mount
	want := map[string]bool{
		"dir": false, "settings": false, "secret": false, "local": false, "made": false,
		"host": true, "image": true, "nfs": true, "read": true, "share": true, "unbound": true,
	}
	for name, source := range map[string]corev1.VolumeSource{
		"dir": {EmptyDir: &corev1.EmptyDirVolumeSource{}}, "settings": {ConfigMap: &corev1.ConfigMapVolumeSource{}}, "secret": {Secret: &corev1.SecretVolumeSource{}},
		"host": {HostPath: &corev1.HostPathVolumeSource{}}, "image": {Image: &corev1.ImageVolumeSource{}}, "nfs": {NFS: &corev1.NFSVolumeSource{}},
		"made": {Ephemeral: &corev1.EphemeralVolumeSource{}}, "local": claim("local", false), "read": claim("local", true), "share": claim("share", false), "unbound": claim("none", false),
	} {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: source})
		pod.Spec.Containers[0].VolumeMounts = append(pod.Spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: name, MountPath: "/" + name + "/"})
		mounts = append(mounts, runtime.Mount{Destination: "/" + name})
	}
	keepLabels(pod, &pod.Spec.Containers[0], mounts, labels{})
	got := map[string]bool{}
	for _, m := range mounts {
		got[m.Destination[1:]] = m.KeepLabel
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}

	pod.Spec.SecurityContext = &corev1.PodSecurityContext{SELinuxOptions: &corev1.SELinuxOptions{Level: "s0"}}
	if got := securityOf(pod, &pod.Spec.Containers[0], "").SELinux; got == nil || got.Level != "s0" {
		t.Errorf("of the pod: %+v", got)
	}
	pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{SELinuxOptions: &corev1.SELinuxOptions{Type: "t"}}
	if got := securityOf(pod, &pod.Spec.Containers[0], "").SELinux; got == nil || *got != (runtime.SELinux{Type: "t"}) {
		t.Errorf("of the container: %+v", got)
	}
}

// TestOwnUsers: a pod that asks for users of its own gets them from its
// network, for all of its containers.
func TestOwnUsers(t *testing.T) {
	m := machine{node: "n1"}
	for hostUsers, want := range map[*bool]bool{nil: false, new(true): false, new(false): true} {
		pod := newPod("p", "a")
		pod.Spec.HostUsers = hostUsers
		if spec, err := m.networkPod(pod); err != nil || spec.OwnUsers != want {
			t.Errorf("network: %+v, %v", spec, err)
		}
	}
	p := prepared{sandbox: network.Sandbox{IP: netip.MustParseAddr("10.1.0.2"), NetNS: "/net", UserNS: "/user-131072", FirstUser: 131072}, pidNS: "/pid"}
	want := runtime.Namespaces{Net: "/net", PID: "/pid", User: "/user-131072", FirstUser: 131072, Users: 65536}
	if diff := cmp.Diff(want, namespacesOf(newPod("p", "a"), p)); diff != "" {
		t.Error(diff)
	}
}

func TestStopSignal(t *testing.T) {
	image := runtime.Image{StopSignal: 3}
	for name, test := range map[string]struct {
		lifecycle *corev1.Lifecycle
		want      int
	}{
		"image": {nil, 3}, "hooks only": {&corev1.Lifecycle{}, 3}, "own": {&corev1.Lifecycle{StopSignal: new(corev1.SIGUSR1)}, 10},
		"real-time": {&corev1.Lifecycle{StopSignal: new(corev1.SIGRTMAXMINUS2)}, 62},
	} {
		if got := stopSignalOf(&corev1.Container{Lifecycle: test.lifecycle}, image); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
}
