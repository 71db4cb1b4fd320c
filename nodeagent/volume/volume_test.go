package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/testdata/requires"
)

type refs struct {
	maps    map[string]*corev1.ConfigMap
	secrets map[string]*corev1.Secret
	claims  map[string]*corev1.PersistentVolumeClaim
	volumes map[string]*corev1.PersistentVolume
	tokens  map[string]string
}

func (r refs) ConfigMap(namespace, name string) (*corev1.ConfigMap, bool) {
	object, ok := r.maps[namespace+"/"+name]
	return object, ok
}

func (r refs) Secret(namespace, name string) (*corev1.Secret, bool) {
	object, ok := r.secrets[namespace+"/"+name]
	return object, ok
}

func ptr[T any](v T) *T { return &v }

func newManager(t *testing.T) *Manager {
	t.Helper()
	requires.Root(t)
	m, err := New(Config{Dir: filepath.Join(t.TempDir(), "pods"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unmountBelow(m.dir); err != nil {
			t.Error(err)
		}
	})
	return m
}

func podWith(volumes ...corev1.Volume) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "lamp", UID: "uid-1"},
		Spec:       corev1.PodSpec{Volumes: volumes},
	}
}

func volumeOf(name string, source corev1.VolumeSource) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: source}
}

func configMapVolume(source corev1.ConfigMapVolumeSource, name string) corev1.Volume {
	source.Name = name
	return volumeOf("config", corev1.VolumeSource{ConfigMap: &source})
}

func mustPrepare(t *testing.T, m *Manager, pod *corev1.Pod, r Refs) map[string]string {
	t.Helper()
	paths, err := m.Prepare(t.Context(), pod, r)
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// tree lists what a container sees: path, mode and content.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		info, err := os.Stat(path)
		switch {
		case strings.HasPrefix(entry.Name(), ".."):
		case err != nil:
			t.Error(err)
		case info.IsDir():
			for name, what := range tree(t, path) {
				seen[entry.Name()+"/"+name] = what
			}
		default:
			data, err := os.ReadFile(path)
			if err != nil {
				t.Error(err)
			}
			seen[entry.Name()] = info.Mode().String() + " " + string(data)
		}
	}
	return seen
}

func TestEmptyDirLife(t *testing.T) {
	m := newManager(t)
	pod := podWith(
		volumeOf("disk", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}),
		volumeOf("memory", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: ptr(resource.MustParse("1Mi"))}}))
	paths := mustPrepare(t, m, pod, refs{})
	if err := os.WriteFile(filepath.Join(paths["disk"], "kept"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(paths["memory"], "big"), make([]byte, 2<<20), 0o644); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("the size limit does not hold: %v", err)
	}
	if diff := cmp.Diff(paths, mustPrepare(t, m, pod, refs{})); diff != "" {
		t.Errorf("prepared again: %s", diff)
	}
	if points, _ := mountPoints(m.dir); len(points) != 1 {
		t.Errorf("mounted %v", points)
	}
	for name, path := range paths {
		if info, err := os.Stat(path); err != nil || info.Mode() != fs.ModeDir|0o777 {
			t.Errorf("%s is %v, %v", name, info.Mode(), err)
		}
	}
	if uids, err := m.List(); err != nil || !cmp.Equal(uids, []string{"uid-1"}) {
		t.Errorf("listed %v, %v", uids, err)
	}
	for range 2 {
		if err := m.Remove("uid-1"); err != nil {
			t.Error(err)
		}
	}
	if points, _ := mountPoints(m.dir); len(points) != 0 {
		t.Errorf("left mounted: %v", points)
	}
	if uids, _ := m.List(); len(uids) != 0 {
		t.Errorf("left: %v", uids)
	}
}

// Remove deletes what is the pod's and nothing that a link or a mount in its
// volumes leads to.
func TestRemoveStaysInside(t *testing.T) {
	m := newManager(t)
	outside := t.TempDir()
	precious := filepath.Join(outside, "precious")
	if err := os.WriteFile(precious, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	path := mustPrepare(t, m, podWith(volumeOf("v", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})), refs{})["v"]
	if err := os.Symlink(outside, filepath.Join(path, "link")); err != nil {
		t.Fatal(err)
	}
	bound := filepath.Join(path, "a mount")
	if err := errors.Join(os.Mkdir(bound, 0o755), unix.Mount(outside, bound, "", unix.MS_BIND, "")); err != nil {
		t.Fatal(err)
	}
	if err := m.Remove("uid-1"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
	for _, uid := range []string{"", ".", "..", "../x", "a/b"} {
		if err := m.Remove(uid); err == nil {
			t.Errorf("uid %q was accepted", uid)
		}
	}
}

func TestConfigMapFollows(t *testing.T) {
	m := newManager(t)
	object := &corev1.ConfigMap{Data: map[string]string{"a": "1", "b": "2"}, BinaryData: map[string][]byte{"c": {0xff}}}
	r := refs{maps: map[string]*corev1.ConfigMap{"default/settings": object}}
	pod := podWith(configMapVolume(corev1.ConfigMapVolumeSource{}, "settings"))
	dir := mustPrepare(t, m, pod, r)["config"]
	if diff := cmp.Diff(map[string]string{"a": "-rw-r--r-- 1", "b": "-rw-r--r-- 2", "c": "-rw-r--r-- \xff"}, tree(t, dir)); diff != "" {
		t.Error(diff)
	}
	link := func() string { l, _ := os.Readlink(filepath.Join(dir, dataLink)); return l }
	before := link()
	if err := m.Update(pod, r); err != nil || link() != before {
		t.Errorf("no change, but a new set: %v", err)
	}
	object.Data = map[string]string{"b": "3", "d": "4"}
	object.BinaryData = nil
	if err := m.Update(pod, r); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"b": "-rw-r--r-- 3", "d": "-rw-r--r-- 4"}, tree(t, dir)); diff != "" {
		t.Error(diff)
	}
	if sets, _ := filepath.Glob(filepath.Join(dir, setsGlob)); len(sets) != 1 {
		t.Errorf("sets left: %v", sets)
	}
	var missing *MissingReferenceError
	if err := m.Update(pod, refs{}); !errors.As(err, &missing) {
		t.Errorf("object gone: %v", err)
	}
	if len(tree(t, dir)) != 2 {
		t.Error("what was there is gone")
	}
}

func TestSecretIsInMemory(t *testing.T) {
	m := newManager(t)
	r := refs{secrets: map[string]*corev1.Secret{"default/keys": {Data: map[string][]byte{"key": []byte("x"), "other": nil}}}}
	pod := podWith(volumeOf("s", corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
		SecretName: "keys", DefaultMode: ptr(int32(0o400)), Items: []corev1.KeyToPath{{Key: "key", Path: "deep/er/k"}, {Key: "other", Path: "deep/o", Mode: ptr(int32(0o604))}},
	}}))
	dir := mustPrepare(t, m, pod, r)["s"]
	if diff := cmp.Diff(map[string]string{"deep/er/k": "-r-------- x", "deep/o": "-rw----r-- "}, tree(t, dir)); diff != "" {
		t.Error(diff)
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil || stat.Type != unix.TMPFS_MAGIC {
		t.Errorf("file system is %x, %v", stat.Type, err)
	}
	mustPrepare(t, m, pod, r)
	if points, err := mountPoints(dir); len(points) != 1 || err != nil {
		t.Errorf("prepared twice, mounted at %v, %v", points, err)
	}
}

func TestMissingReferences(t *testing.T) {
	m := newManager(t)
	r := refs{maps: map[string]*corev1.ConfigMap{"default/settings": {Data: map[string]string{"a": "1"}}}}
	items := []corev1.KeyToPath{{Key: "none", Path: "x"}}
	for name, test := range map[string]struct {
		volume corev1.Volume
		want   string
	}{
		"config map":          {configMapVolume(corev1.ConfigMapVolumeSource{}, "none"), "volume config: configMap default/none not found"},
		"optional":            {configMapVolume(corev1.ConfigMapVolumeSource{Optional: ptr(true)}, "none"), ""},
		"key":                 {configMapVolume(corev1.ConfigMapVolumeSource{Items: items}, "settings"), `volume config: configMap default/settings has no key "none"`},
		"optional key":        {configMapVolume(corev1.ConfigMapVolumeSource{Items: items, Optional: ptr(true)}, "settings"), ""},
		"secret":              {volumeOf("s", corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "none"}}), "volume s: secret default/none not found"},
		"a path that escapes": {configMapVolume(corev1.ConfigMapVolumeSource{Items: []corev1.KeyToPath{{Key: "a", Path: "../x"}}}, "settings"), `volume config: path "../x": must be relative and not start with ".."`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := m.Prepare(t.Context(), podWith(test.volume), r)
			if got := message(err); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if strings.Contains(test.want, "no") && err != nil && strings.Contains(name, "key") && !errors.Is(err, ErrMissingReference) {
				t.Errorf("%v is no ErrMissingReference", err)
			}
		})
	}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestHostPath(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		path string
		kind corev1.HostPathType
		ok   bool
	}{
		"nothing asked, nothing there": {filepath.Join(dir, "new1"), corev1.HostPathUnset, true},
		"directory made":               {filepath.Join(dir, "new2/deep"), corev1.HostPathDirectoryOrCreate, true},
		"file made":                    {filepath.Join(dir, "new3"), corev1.HostPathFileOrCreate, true},
		"directory missing":            {filepath.Join(dir, "none"), corev1.HostPathDirectory, false},
		"file missing":                 {filepath.Join(dir, "none"), corev1.HostPathFile, false},
		"socket missing":               {filepath.Join(dir, "none"), corev1.HostPathSocket, false},
		"directory is a file":          {plain, corev1.HostPathDirectory, false},
		"file":                         {plain, corev1.HostPathFile, true},
		"file is a directory":          {dir, corev1.HostPathFileOrCreate, false},
		"device":                       {"/dev/null", corev1.HostPathCharDev, true},
		"no block device":              {"/dev/null", corev1.HostPathBlockDev, false},
		"no socket":                    {plain, corev1.HostPathSocket, false},
		"unknown type":                 {plain, "Cloud", false},
		"relative":                     {"some/where", corev1.HostPathUnset, false},
	} {
		t.Run(name, func(t *testing.T) {
			err := prepareHostPath(&corev1.HostPathVolumeSource{Path: test.path, Type: &test.kind})
			if (err == nil) != test.ok {
				t.Errorf("got %v", err)
			}
			if _, statErr := os.Stat(test.path); err == nil && statErr != nil {
				t.Error(statErr)
			}
		})
	}
}

func TestSubPath(t *testing.T) {
	m := newManager(t)
	outside := t.TempDir()
	volume := mustPrepare(t, m, podWith(volumeOf("v", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})), refs{})["v"]
	if err := errors.Join(
		os.Symlink(outside, filepath.Join(volume, "out")), os.Symlink("../../../..", filepath.Join(volume, "up")),
		os.Symlink("deep", filepath.Join(volume, "in")), os.WriteFile(filepath.Join(volume, "file"), []byte("x"), 0o644),
	); err != nil {
		t.Fatal(err)
	}
	made, err := m.SubPath("uid-1", "main", volume, "deep/er")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(made, "here"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(volume, "deep/er")); err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("made directory is %v, %v", info, err)
	}
	for sub, ok := range map[string]bool{
		"deep/er": true, "in/er": true, "file": true, ".": true,
		"out": false, "out/x": false, "up/etc": false, "../x": false, "/etc": false, "": false,
	} {
		path, err := m.SubPath("uid-1", "main", volume, sub)
		if (err == nil) != ok {
			t.Errorf("%q: %s, %v", sub, path, err)
		}
	}
	if entries, _ := os.ReadDir(outside); len(entries) > 0 {
		t.Errorf("made outside: %v", entries)
	}
	if err := m.Remove("uid-1"); err != nil {
		t.Fatal(err)
	}
	if points, _ := mountPoints(m.dir); len(points) > 0 {
		t.Errorf("left mounted: %v", points)
	}
}

func TestFiles(t *testing.T) {
	m := newManager(t)
	hosts := Hosts{IPs: []string{"10.0.0.7"}, Hostname: "lamp", Domain: "sub.default.svc.cluster.local", Aliases: []corev1.HostAlias{{IP: "10.9.9.9", Hostnames: []string{"a", "b"}}}}
	path, err := m.WriteHosts("uid-1", hosts)
	if err != nil {
		t.Fatal(err)
	}
	first, _ := os.Stat(path)
	data, _ := os.ReadFile(path)
	if want := "10.0.0.7\tlamp.sub.default.svc.cluster.local\tlamp\n10.9.9.9\ta\tb\n"; !strings.HasSuffix(string(data), want) || !strings.HasPrefix(string(data), "# Kubernetes-managed hosts file.\n") {
		t.Errorf("hosts: %s", data)
	}
	hosts.IPs = []string{"10.0.0.8"}
	if _, err := m.WriteHosts("uid-1", hosts); err != nil {
		t.Fatal(err)
	}
	if second, _ := os.Stat(path); !os.SameFile(first, second) {
		t.Error("another file: running containers keep the old one")
	}
	log, err := m.TerminationLog("uid-1", "main", 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(log, []byte(strings.Repeat("x", 5000)), 0o666); err != nil {
		t.Fatal(err)
	}
	if got := m.ReadTerminationLog("uid-1", "main", 2); len(got) != maxTerminationMessage {
		t.Errorf("message has %d bytes", len(got))
	}
	if err := errors.Join(os.Remove(log), os.Symlink("/etc/passwd", log)); err != nil {
		t.Fatal(err)
	}
	if got := m.ReadTerminationLog("uid-1", "main", 2); got != "" {
		t.Errorf("followed a link: %q", got)
	}
}

func TestPodResolv(t *testing.T) {
	cluster := ClusterDNS{Servers: []string{"10.96.0.10"}, Domain: "cluster.local"}
	node := ParseResolvConf([]byte("# c\nnameserver 9.9.9.9\nsearch old\nsearch lan\noptions timeout:1\n"))
	inCluster := "nameserver 10.96.0.10\nsearch default.svc.cluster.local svc.cluster.local cluster.local lan\noptions ndots:5\n"
	onNode := "nameserver 9.9.9.9\nsearch lan\noptions timeout:1\n"
	for name, test := range map[string]struct {
		spec    corev1.PodSpec
		cluster ClusterDNS
		want    string
	}{
		"as usual":            {corev1.PodSpec{}, cluster, inCluster},
		"no cluster DNS":      {corev1.PodSpec{}, ClusterDNS{}, onNode},
		"host network":        {corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst, HostNetwork: true}, cluster, onNode},
		"host network wishes": {corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirstWithHostNet, HostNetwork: true}, cluster, inCluster},
		"the node's":          {corev1.PodSpec{DNSPolicy: corev1.DNSDefault}, cluster, onNode},
		"its own": {corev1.PodSpec{DNSPolicy: corev1.DNSNone, DNSConfig: &corev1.PodDNSConfig{
			Nameservers: []string{"1.1.1.1"}, Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: ptr("2")}, {Name: "rotate"}},
		}}, cluster, "nameserver 1.1.1.1\noptions ndots:2 rotate\n"},
		"added": {corev1.PodSpec{DNSConfig: &corev1.PodDNSConfig{
			Searches: []string{"lan", "more"}, Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: ptr("1")}},
		}}, cluster, "nameserver 10.96.0.10\nsearch default.svc.cluster.local svc.cluster.local cluster.local lan more\noptions ndots:1\n"},
	} {
		pod := podWith()
		pod.Spec = test.spec
		if diff := cmp.Diff(test.want, string(PodResolv(pod, test.cluster, node).Render())); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func (r refs) Claim(namespace, name string) (*corev1.PersistentVolumeClaim, bool) {
	object, ok := r.claims[namespace+"/"+name]
	return object, ok
}

func (r refs) Volume(name string) (*corev1.PersistentVolume, bool) {
	object, ok := r.volumes[name]
	return object, ok
}

func (r refs) Field(pod *corev1.Pod, path string) (string, error) {
	if path != "metadata.labels" {
		return "", fmt.Errorf("no field %s", path)
	}
	return fmt.Sprint(pod.Labels), nil
}

func (r refs) Resource(_ *corev1.Pod, ref *corev1.ResourceFieldSelector) (string, error) {
	return ref.Resource, nil
}

func (r refs) Token(_ *corev1.Pod, audience string, seconds int64) (string, bool) {
	token, ok := r.tokens[fmt.Sprintf("%s|%d", audience, seconds)]
	return token, ok
}
