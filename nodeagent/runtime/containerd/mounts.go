package containerd

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// buildMounts lists the file systems every container has and then the pod's
// own, parents before what is mounted in them. A pod's mount takes the place
// of a default one at the same destination.
func buildMounts(own []rt.Mount, privileged bool) []specs.Mount {
	binds := make([]specs.Mount, 0, len(own))
	for _, m := range own {
		binds = append(binds, bind(m))
	}
	slices.SortStableFunc(binds, func(a, b specs.Mount) int {
		return cmp.Compare(strings.Count(a.Destination, "/"), strings.Count(b.Destination, "/"))
	})
	mounts := slices.DeleteFunc(defaultMounts(privileged), func(m specs.Mount) bool {
		return slices.ContainsFunc(binds, func(b specs.Mount) bool { return b.Destination == m.Destination })
	})
	return append(mounts, binds...)
}

func bind(m rt.Mount) specs.Mount {
	access := "rw"
	if m.ReadOnly {
		access = "ro"
	}
	options := []string{"rbind", propagation[m.Propagation], access}
	if m.RecursiveReadOnly {
		options = append(options, "rro")
	}
	if m.NoExec {
		options = append(options, "noexec")
	}
	return specs.Mount{Type: "bind", Source: m.Source, Destination: path.Clean("/" + m.Destination), Options: options}
}

// propagation is the option of a mount.
var propagation = map[rt.Propagation]string{rt.Private: "rprivate", rt.FromMachine: "rslave", rt.BothWays: "rshared"}

// rootPropagation is that of the root file system, which must let through what
// a mount in it lets through.
func rootPropagation(mounts []rt.Mount) string {
	from := ""
	for _, m := range mounts {
		switch m.Propagation {
		case rt.BothWays:
			return "rshared"
		case rt.FromMachine:
			from = "rslave"
		}
	}
	return from
}

func defaultMounts(privileged bool) []specs.Mount {
	access := "ro"
	if privileged {
		access = "rw"
	}
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", access}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", access}},
	}
}
