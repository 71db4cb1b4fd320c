package containerd

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/testdata/requires"
)

func TestAppArmor(t *testing.T) {
	for name, test := range map[string]struct {
		sec     rt.Security
		enabled bool
		want    string
		refused bool
	}{
		"nothing said":               {enabled: true, want: defaultAppArmor},
		"nothing said, without":      {},
		"default":                    {sec: rt.Security{AppArmor: rt.AppArmor{Required: true}}, enabled: true, want: defaultAppArmor},
		"default, without":           {sec: rt.Security{AppArmor: rt.AppArmor{Required: true}}, refused: true},
		"own profile":                {sec: rt.Security{AppArmor: rt.AppArmor{Required: true, Profile: "lamp"}}, enabled: true, want: "lamp"},
		"own profile, without":       {sec: rt.Security{AppArmor: rt.AppArmor{Profile: "lamp"}}, refused: true},
		"unconfined":                 {sec: rt.Security{AppArmor: rt.AppArmor{Unconfined: true}}, enabled: true},
		"unconfined, without":        {sec: rt.Security{AppArmor: rt.AppArmor{Unconfined: true}}},
		"privileged":                 {sec: rt.Security{Privileged: true}, enabled: true},
		"privileged, default":        {sec: rt.Security{Privileged: true, AppArmor: rt.AppArmor{Required: true}}, enabled: true},
		"privileged, an own profile": {sec: rt.Security{Privileged: true, AppArmor: rt.AppArmor{Profile: "lamp"}}, enabled: true, want: "lamp"},
	} {
		got, err := appArmorOf(test.sec, test.enabled)
		if got != test.want || errors.Is(err, rt.ErrConfig) != test.refused {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	list := []byte("/usr/sbin/lamp (enforce)\nlamp//child (complain)\ntwo words (enforce)\n")
	for profile, want := range map[string]bool{"/usr/sbin/lamp": true, "two words": true, "lamp": false, "": false} {
		if got := hasProfile(list, profile); got != want {
			t.Errorf("profile %q is loaded: %t", profile, got)
		}
	}
}

func TestSELinuxLabels(t *testing.T) {
	policy := parsePolicy([]byte(`process = "system_u:system_r:container_t:s0"
content = "system_u:object_r:virt_var_lib_t:s0"
file = "system_u:object_r:container_file_t:s0"
ro_file="system_u:object_r:container_ro_file_t:s0"
`))
	if policy == nil || parsePolicy([]byte("process = x\n")) != nil {
		t.Fatalf("policies are not read: %v", policy)
	}
	own := levelOf("uid")
	for name, test := range map[string]struct {
		sec           rt.Security
		policy        *selinuxPolicy
		process, file string
	}{
		"nothing said":    {policy: policy},
		"without SELinux": {sec: rt.Security{SELinux: &rt.SELinux{Level: "s0"}}},
		"level": {
			rt.Security{SELinux: &rt.SELinux{Level: "s0:c1,c2"}},
			policy,
			"system_u:system_r:container_t:s0:c1,c2", "system_u:object_r:container_file_t:s0:c1,c2",
		},
		"all": {
			rt.Security{SELinux: &rt.SELinux{User: "u", Role: "r", Type: "t", Level: "s1"}},
			policy,
			"u:r:t:s1", "u:object_r:container_file_t:s1",
		},
		"the pod's own level": {
			rt.Security{SELinux: &rt.SELinux{Type: "spc_t"}},
			policy,
			"system_u:system_r:spc_t:" + own, "system_u:object_r:container_file_t:" + own,
		},
		"privileged": {
			rt.Security{Privileged: true, SELinux: &rt.SELinux{Level: "s0"}},
			policy,
			"", "system_u:object_r:container_file_t:s0",
		},
	} {
		process, file := labelsOf(test.sec, "uid", test.policy)
		if process != test.process || file != test.file {
			t.Errorf("%s: %q and %q", name, process, file)
		}
	}
	if levelOf("a") == levelOf("b") {
		t.Error("pods do not have levels of their own")
	}
	root := []mount.Mount{{Type: "overlay", Options: []string{"lowerdir=/a"}}, {Type: "bind"}}
	want := []mount.Mount{{Type: "overlay", Options: []string{"lowerdir=/a", `context="u:r:t:s0"`}}, {Type: "bind"}}
	if diff := cmp.Diff(want, labelled(root, "u:r:t:s0")); diff != "" {
		t.Error(diff)
	}
}

// TestRelabel: labels are attributes of files, which root may set also on a
// machine without SELinux.
func TestRelabel(t *testing.T) {
	requires.Root(t)
	own, other := t.TempDir(), t.TempDir()
	for _, dir := range []string{own, other} {
		if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(other, "f"), filepath.Join(own, "link")); err != nil {
		t.Fatal(err)
	}
	if err := relabel([]rt.Mount{{Source: own}, {Source: other, KeepLabel: true}}, "u:r:t:s0"); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{own: "u:r:t:s0", filepath.Join(own, "f"): "u:r:t:s0", other: "", filepath.Join(other, "f"): ""} {
		got := make([]byte, 100)
		n, err := unix.Lgetxattr(path, "security.selinux", got)
		if string(got[:max(n, 0)]) != want {
			t.Errorf("%s is labelled %q, want %q: %v", path, got[:max(n, 0)], want, err)
		}
	}
}
