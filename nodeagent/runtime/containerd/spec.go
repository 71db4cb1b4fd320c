package containerd

import (
	"path"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

const (
	// specVersion is the oldest version of the specification that holds all we
	// write, so that older OCI runtimes take it.
	specVersion = "1.0.2"
	// shimGroup makes the containers of a pod share one shim.
	shimGroup = "io.containerd.runc.v2.group"

	defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// buildSpec says in OCI's words how to run a container of an image on a
// machine. Pure: devices are the machine's, for a privileged container.
func buildSpec(c rt.Container, img image, who runAs, m machine, devices []specs.LinuxDevice) *specs.Spec {
	spec := &specs.Spec{
		Version:     specVersion,
		Root:        &specs.Root{Path: "rootfs", Readonly: c.Security.ReadOnlyRootfs},
		Hostname:    c.Hostname,
		Mounts:      buildMounts(c.Mounts, c.Security.Privileged),
		Annotations: map[string]string{shimGroup: c.Pod.UID},
		Process: &specs.Process{
			User:            specs.User{UID: who.uid, GID: who.gid, AdditionalGids: who.groups},
			Args:            c.Args,
			Terminal:        c.TTY,
			Env:             buildEnv(c),
			Cwd:             workingDir(c.WorkingDir, img.config.WorkingDir),
			NoNewPrivileges: c.Security.NoNewPrivileges,
			Capabilities:    buildCapabilities(c.Security, m.caps),
		},
		Linux: &specs.Linux{
			CgroupsPath: path.Join(c.CgroupParent, c.ID),
			Namespaces:  buildNamespaces(c.Namespaces, m.unified),
			Resources:   buildResources(c.Resources, m.swap),
			Sysctl:      c.Sysctls,

			RootfsPropagation: rootPropagation(c.Mounts),
		},
	}
	if c.Namespaces.User != "" {
		inUsers(spec, c.Namespaces)
	}
	if adj := c.Resources.OOMScoreAdj; adj != 0 {
		adj = max(adj, m.oomFloor)
		spec.Process.OOMScoreAdj = &adj
	}
	if c.Security.Privileged {
		openMachine(spec, devices)
	} else {
		confine(spec, c.Security)
	}
	return spec
}

func workingDir(asked, image string) string {
	switch {
	case asked != "":
		return asked
	case image != "":
		return image
	}
	return "/"
}

func buildEnv(c rt.Container) []string {
	var env []string
	if !hasEnv(c.Env, "PATH") {
		env = append(env, defaultPath)
	}
	if c.TTY && !hasEnv(c.Env, "TERM") {
		env = append(env, defaultTerm)
	}
	if c.Hostname != "" && !hasEnv(c.Env, "HOSTNAME") {
		env = append(env, "HOSTNAME="+c.Hostname)
	}
	return append(env, c.Env...)
}

func hasEnv(env []string, name string) bool {
	return slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
}

// buildNamespaces joins what is pinned. The host's is having none of one's own.
func buildNamespaces(n rt.Namespaces, unified bool) []specs.LinuxNamespace {
	list := []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.UTSNamespace, Path: n.UTS}}
	if !n.HostPID {
		list = append(list, specs.LinuxNamespace{Type: specs.PIDNamespace, Path: n.PID})
	}
	if !n.HostIPC {
		list = append(list, specs.LinuxNamespace{Type: specs.IPCNamespace, Path: n.IPC})
	}
	if n.Net != "" {
		list = append(list, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: n.Net})
	}
	if unified {
		list = append(list, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	return list
}

func buildResources(want rt.Resources, swap bool) *specs.LinuxResources {
	resources := &specs.LinuxResources{
		Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}},
		CPU:     &specs.LinuxCPU{},
		Memory:  &specs.LinuxMemory{},
	}
	if want.CPUShares != 0 {
		resources.CPU.Shares = &want.CPUShares
	}
	if want.CPUQuota != 0 {
		resources.CPU.Quota = &want.CPUQuota
		if want.CPUPeriod != 0 {
			resources.CPU.Period = &want.CPUPeriod
		}
	}
	if want.MemoryLimit != 0 {
		resources.Memory.Limit = &want.MemoryLimit
		if swap {
			resources.Memory.Swap = &want.MemoryLimit
		}
	}
	return resources
}

// confine hides what of the kernel an ordinary container has no business with.
func confine(spec *specs.Spec, sec rt.Security) {
	if !sec.Seccomp.Unconfined {
		limitCalls(spec)
	}
	if sec.UnmaskedProc {
		return
	}
	spec.Linux.MaskedPaths = []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
		"/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
		"/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
	}
	spec.Linux.ReadonlyPaths = []string{
		"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
	}
}

// limitCalls sets the runtime's own profile.
func limitCalls(spec *specs.Spec) {
	spec.Linux.Seccomp = seccomp.DefaultProfile(spec)
	// The OCI runtime compiles the profile once for each architecture, which is
	// a good part of a container's start. x32 is off in distributions' kernels.
	spec.Linux.Seccomp.Architectures = slices.DeleteFunc(spec.Linux.Seccomp.Architectures,
		func(a specs.Arch) bool { return a == specs.ArchX32 })
}

// openMachine gives a privileged container the machine's devices.
func openMachine(spec *specs.Spec, devices []specs.LinuxDevice) {
	spec.Linux.Devices = devices
	spec.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
}
