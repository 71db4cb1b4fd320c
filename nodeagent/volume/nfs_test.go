package volume

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/testdata/requires"
)

// program puts a shell script before all others of its name.
func program(t *testing.T, name, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func nfsClaim(change func(*corev1.PersistentVolume)) refs {
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "films"}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "nas"}}
	volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "nas"}}
	volume.Spec.NFS = &corev1.NFSVolumeSource{Server: "fd00::1", Path: "/films"}
	volume.Spec.MountOptions = []string{"nfsvers=4.1", "noatime"}
	change(volume)
	return refs{claims: map[string]*corev1.PersistentVolumeClaim{"default/films": claim}, volumes: map[string]*corev1.PersistentVolume{"nas": volume}}
}

// TestNFS: what mount(8) is asked for, as the kubelet asks for it; once, and
// undone with the pod. A program that mounts something else stands for it.
func TestNFS(t *testing.T) {
	claimed := func(readOnly bool) corev1.VolumeSource {
		return corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "films", ReadOnly: readOnly}}
	}
	for name, tc := range map[string]struct {
		source corev1.VolumeSource
		want   string
	}{
		"of a pod":            {corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: "nas", Path: "/films"}}, "-t nfs nas:/films"},
		"read-only":           {corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: "nas", Path: "/films", ReadOnly: true}}, "-t nfs -o ro nas:/films"},
		"claimed":             {claimed(false), "-t nfs -o nfsvers=4.1,noatime [fd00::1]:/films"},
		"claimed to be read":  {claimed(true), "-t nfs -o nfsvers=4.1,noatime,ro [fd00::1]:/films"},
		"with an IPv6 server": {corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: "fd00::2", Path: "/"}}, "-t nfs [fd00::2]:/"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newManager(t)
			asked := filepath.Join(t.TempDir(), "asked")
			program(t, "mount", fmt.Sprintf(`echo "$@" >> %s; for last; do :; done; exec /bin/mount -t tmpfs tmpfs "$last"`, asked))
			pod := podWith(volumeOf("films", tc.source))
			pod.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: ptr(int64(77))} // which it leaves alone
			path := mustPrepare(t, m, pod, nfsClaim(func(*corev1.PersistentVolume) {}))["films"]
			mustPrepare(t, m, pod, nfsClaim(func(*corev1.PersistentVolume) {}))
			got, _ := os.ReadFile(asked)
			if diff := cmp.Diff(tc.want+" "+path+"\n", string(got)); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
			if mounted, err := m.Mounted("uid-1", "films"); !mounted || err != nil {
				t.Errorf("mounted: %v, %v", mounted, err)
			}
			if err := m.Answers(t.Context(), "uid-1", "films"); err != nil {
				t.Error(err)
			}
			if err := m.Remove("uid-1"); err != nil {
				t.Error(err)
			}
			if points, _ := mountPoints(m.dir); len(points) > 0 {
				t.Errorf("left mounted: %v", points)
			}
		})
	}
}

// A share that cannot be mounted says what to do about it, and leaves nothing.
func TestNFSFails(t *testing.T) {
	m := newManager(t)
	program(t, "mount", "echo 'mount.nfs: access denied by server while mounting nas:/films' >&2; exit 32")
	pod := podWith(volumeOf("films", corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: "nas", Path: "/films"}}))
	_, err := m.Prepare(t.Context(), pod, refs{})
	if err == nil || !strings.Contains(err.Error(), "access denied") {
		t.Errorf("got %v", err)
	}
	option := corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: "--fstab=/tmp/of-a-pod", Path: "/films"}}
	if _, err = m.Prepare(t.Context(), podWith(volumeOf("films", option)), refs{}); err == nil || !strings.Contains(err.Error(), "does not begin with -") {
		t.Errorf("an option as a server: %v", err)
	}
	_, err = m.Prepare(t.Context(), podWith(volumeOf("films", corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "films"}})),
		nfsClaim(func(v *corev1.PersistentVolume) {
			v.Spec.NFS, v.Spec.Local = nil, &corev1.LocalVolumeSource{Path: t.TempDir()}
		}))
	if err == nil || !strings.Contains(err.Error(), "mountOptions are for nfs alone") {
		t.Errorf("got %v", err)
	}
	failed := errors.New("exit status 32")
	for name, tc := range map[string]struct {
		output string
		err    error
		helper bool
		want   string
	}{
		"no helper":  {"mount: bad option", failed, false, "install nfs-common"},
		"no module":  {"mount.nfs: No such device", failed, true, "modprobe nfs"},
		"no export":  {"mount.nfs: access denied by server while mounting nas:/x", failed, true, "look at its exports"},
		"no path":    {"mount.nfs: mounting nas:/x failed, reason given by server: No such file or directory", failed, true, "no such path"},
		"no answer":  {"", context.DeadlineExceeded, true, "does not answer"},
		"refused":    {"mount.nfs: Connection refused", failed, true, "does not answer"},
		"no mount":   {"", exec.ErrNotFound, true, "install mount(8)"},
		"who knows?": {"mount.nfs: oh", failed, true, ""},
	} {
		if got := nfsAdvice(tc.output, tc.err, tc.helper); !strings.Contains(got, tc.want) || got == "" != (tc.want == "") {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// The real programs of this machine: whatever it lacks is said.
func TestNFSForReal(t *testing.T) {
	m := newManager(t)
	pod := podWith(volumeOf("films", corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: "127.0.0.1", Path: "/none"}}))
	_, err := m.Prepare(t.Context(), pod, refs{})
	if err == nil {
		t.Fatal("there is no server, and it was mounted")
	}
	for _, want := range []string{"install nfs-common", "modprobe nfs", "does not answer"} {
		if strings.Contains(err.Error(), want) {
			return
		}
	}
	t.Errorf("nobody is told what to do: %v", err)
}

// mountDead mounts a file system whose server never answers.
func mountDead(t *testing.T, dir string) {
	t.Helper()
	device, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		requires.Unmet(t, "there is no file system here that does not answer: "+err.Error())
	}
	t.Cleanup(func() { _ = device.Close() }) // and whoever waits is let go
	if err := unix.Mount("dead", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", device.Fd())); err != nil {
		t.Fatal(err)
	}
}

// A server that has died holds nobody up for long: what asks it is given up,
// and its mount goes by force if it must.
func TestDeadServer(t *testing.T) {
	m := newManager(t)
	for name, umount := range map[string]string{
		"unmounts":               `exec /bin/umount "$@"`,
		"unmounts only by force": `[ "$1" = -f ] || exec sleep 60; exec /bin/umount "$@"`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := m.Dir("uid-1", "films")
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			mountDead(t, dir)
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			if err := m.Answers(ctx, "uid-1", "films"); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "its server does not answer") {
				t.Errorf("got %v", err)
			}
			share := corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: "nas", Path: "/films"}}
			mustPrepare(t, m, podWith(volumeOf("films", share)), refs{}) // as after the agent's restart
			program(t, "umount", umount)
			if err := unmountNFS(dir, 2*time.Second); err != nil {
				t.Error(err)
			}
			if points, _ := mountPoints(m.dir); len(points) > 0 {
				t.Errorf("left mounted: %v", points)
			}
			if took := time.Since(began); took > 30*time.Second { // and nobody waits for a minute
				t.Errorf("took %v", took)
			}
		})
	}
}

// answerInit lets a file system begin, of which nothing else is answered.
func answerInit(t *testing.T, device int) {
	t.Helper()
	request := make([]byte, 1<<17)
	if _, err := unix.Read(device, request); err != nil {
		t.Fatal(err)
	}
	const header, body = 16, 64 // fuse_out_header, fuse_init_out
	answer := binary.NativeEndian.AppendUint32(nil, header+body)
	answer = binary.NativeEndian.AppendUint32(answer, 0)
	answer = append(answer, request[8:16]...) // to this request
	for _, field := range []uint32{7, 31, 0, 0, 0, 4096} {
		answer = binary.NativeEndian.AppendUint32(answer, field)
	}
	if _, err := unix.Write(device, append(answer, make([]byte, header+body-len(answer))...)); err != nil {
		t.Fatal(err)
	}
}

// A program that waits for a server that has its request cannot be killed. It
// is given up all the same.
func TestCommandThatCannotBeKilled(t *testing.T) {
	m := newManager(t)
	dir := m.Dir("uid-1", "films")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	device, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		requires.Unmet(t, "there is no file system here that does not answer: "+err.Error())
	}
	if err := unix.Mount("dead", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", device)); err != nil {
		t.Fatal(err)
	}
	answerInit(t, device)
	ctx, taken := context.WithCancelCause(t.Context())
	var request error
	go func() {
		_, request = unix.Read(device, make([]byte, 1<<17))
		taken(context.DeadlineExceeded)
	}()
	_, err = command(ctx, time.Minute, "stat", "-f", dir)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "cannot be killed") {
		t.Fatalf("got %v", err)
	}
	if request != nil {
		t.Errorf("the request: %v", request)
	}
	if err := errors.Join(unix.Close(device), m.Remove("uid-1")); err != nil {
		t.Error(err)
	}
}
