package nodeagent

import (
	"fmt"
	"hash/fnv"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/network"
	"github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/nodeagent/volume"
)

// subPathFunc finds a part of a volume for a container (volume.Manager's
// SubPath, for one pod).
type subPathFunc func(container, volumePath, subPath string) (string, error)

// machine is what all containers of a node are made with.
type machine struct {
	node, hostIP, cgroupRoot string
	memory                           int64
}

// prepared is what a pod has once it is prepared.
type prepared struct {
	sandbox network.Sandbox
	volumes map[string]string // host path by volume name
	files   []runtime.Mount   // hosts, resolv.conf, hostname
}

// maxContainerID is containerd's limit, in bytes.
const maxContainerID = 76

// ContainerID is unique on a machine, and the same for the same attempt: what
// was started twice is refused by the runtime. It has at most 76 bytes with
// UIDs as we make them.
func ContainerID(pod *corev1.Pod, name string, attempt int) string {
	id := fmt.Sprintf("%s-%s-%d", pod.UID, name, attempt)
	if len(id) > maxContainerID {
		h := fnv.New64a()
		h.Write([]byte(name))
		id = fmt.Sprintf("%s-%016x-%d", pod.UID, h.Sum64(), attempt)
	}
	return id
}


// containerFor says how to start a container of a pod.
func (m machine) containerFor(pod *corev1.Pod, c *corev1.Container, attempt int, image runtime.Image, p prepared, refs volume.Refs, subPath subPathFunc) (runtime.Container, error) {
	facts := podFacts{podIP: p.sandbox.IP.String(), hostIP: m.hostIP, node: m.node}
	env, declared, err := environment(pod, c, image.Env, refs, facts)
	if err != nil {
		return runtime.Container{}, err
	}
	mounts, err := mountsFor(pod, c, p, subPath)
	if err != nil {
		return runtime.Container{}, err
	}
	args := commandLine(c, image, declared)
	if len(args) == 0 {
		return runtime.Container{}, fmt.Errorf("image %s names no command and container %s sets none: %w", c.Image, c.Name, errConfig)
	}
	workingDir := c.WorkingDir
	if workingDir == "" {
		workingDir = image.WorkingDir
	}
	return runtime.Container{
		ID:       ContainerID(pod, c.Name, attempt),
		Pod:      runtime.PodRef{UID: string(pod.UID), Namespace: pod.Namespace, Name: pod.Name},
		Name:     c.Name,
		Attempt:  attempt,
		SpecHash: SpecHash(c),
		Image:    image.Ref,
		Args:     args,
		Env:      env, WorkingDir: workingDir, Mounts: mounts,
		Namespaces:   runtime.Namespaces{Net: p.sandbox.NetNS, IPC: p.sandbox.IPCNS, UTS: p.sandbox.UTSNS},
		Hostname:     hostname(pod, m.node),
		CgroupParent: m.podCgroup(string(pod.UID)),
		Resources:    m.resourcesOf(pod, c),
		Security:     securityOf(pod, c),
	}, nil
}

func (m machine) podCgroup(uid string) string { return m.cgroupRoot + "/pod" + uid }

// commandLine resolves command and args against the image's (Kubernetes:
// "Define a Command and Arguments for a Container"). $(NAME) stands for what
// the container's own env says.
func commandLine(c *corev1.Container, image runtime.Image, env map[string]string) []string {
	command, args := c.Command, c.Args
	if len(command) == 0 {
		command = image.Entrypoint
		if len(args) == 0 {
			args = image.Cmd
		}
	}
	lookup := func(name string) (string, bool) { value, ok := env[name]; return value, ok }
	var out []string
	for _, arg := range slices.Concat(command, args) {
		out = append(out, Expand(arg, lookup))
	}
	return out
}

func mountsFor(pod *corev1.Pod, c *corev1.Container, p prepared, subPath subPathFunc) ([]runtime.Mount, error) {
	mounts := slices.Clone(p.files)
	for _, vm := range c.VolumeMounts {
		source, ok := p.volumes[vm.Name]
		if !ok {
			return nil, fmt.Errorf("volume %s of container %s is not there: %w", vm.Name, c.Name, errConfig)
		}
		if vm.SubPath != "" {
			var err error
			if source, err = subPath(c.Name, source, vm.SubPath); err != nil {
				return nil, fmt.Errorf("subPath of volume %s: %w", vm.Name, err)
			}
		}
		destination := filepath.Clean("/" + vm.MountPath)
		mounts = slices.DeleteFunc(mounts, func(m runtime.Mount) bool { return m.Destination == destination })
		mounts = append(mounts, runtime.Mount{Source: source, Destination: destination, ReadOnly: vm.ReadOnly || generated(pod, vm.Name)})
	}
	// A mount inside another comes after it.
	slices.SortStableFunc(mounts, func(a, b runtime.Mount) int {
		return strings.Count(a.Destination, "/") - strings.Count(b.Destination, "/")
	})
	return mounts, nil
}

// generated reports whether a volume's content is written by the agent, which
// containers may only read.
func generated(pod *corev1.Pod, volume string) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		return v.Name == volume && (v.ConfigMap != nil || v.Secret != nil)
	})
}

// cpuPeriod is the kernel's default, in µs.
const cpuPeriod = 100000

// resourcesOf turns requests and limits into cgroup settings as the kubelet
// does.
func (m machine) resourcesOf(pod *corev1.Pod, c *corev1.Container) runtime.Resources {
	r := runtime.Resources{
		CPUShares:   max(2, uint64(c.Resources.Requests.Cpu().MilliValue())*1024/1000),
		MemoryLimit: c.Resources.Limits.Memory().Value(),
		OOMScoreAdj: m.oomScoreAdj(pod, c),
	}
	if limit := c.Resources.Limits.Cpu().MilliValue(); limit > 0 {
		r.CPUPeriod = cpuPeriod
		r.CPUQuota = max(1000, limit*cpuPeriod/1000)
	}
	return r
}

// oomScoreAdj decides who is killed first when memory runs out (Kubernetes:
// "Node out of memory behavior").
func (m machine) oomScoreAdj(pod *corev1.Pod, c *corev1.Container) int {
	switch qosClass(pod) {
	case corev1.PodQOSGuaranteed:
		return -997
	case corev1.PodQOSBestEffort:
		return 1000
	}
	if m.memory == 0 {
		return 999
	}
	adj := 1000 - 1000*c.Resources.Requests.Memory().Value()/m.memory
	return int(min(999, max(3, adj)))
}

func securityOf(pod *corev1.Pod, c *corev1.Container) runtime.Security {
	var s runtime.Security
	if p := pod.Spec.SecurityContext; p != nil {
		s.RunAsUser, s.RunAsGroup = p.RunAsUser, p.RunAsGroup
		s.RunAsNonRoot = p.RunAsNonRoot != nil && *p.RunAsNonRoot
		s.SupplementalGroups = slices.Clone(p.SupplementalGroups)
		if p.FSGroup != nil {
			s.SupplementalGroups = append(s.SupplementalGroups, *p.FSGroup)
		}
	}
	sc := c.SecurityContext
	if sc == nil {
		return s
	}
	if sc.RunAsUser != nil {
		s.RunAsUser = sc.RunAsUser
	}
	if sc.RunAsGroup != nil {
		s.RunAsGroup = sc.RunAsGroup
	}
	if sc.RunAsNonRoot != nil {
		s.RunAsNonRoot = *sc.RunAsNonRoot
	}
	s.Privileged = sc.Privileged != nil && *sc.Privileged
	s.ReadOnlyRootfs = sc.ReadOnlyRootFilesystem != nil && *sc.ReadOnlyRootFilesystem
	s.NoNewPrivileges = sc.AllowPrivilegeEscalation != nil && !*sc.AllowPrivilegeEscalation
	if sc.Capabilities != nil {
		for _, capability := range sc.Capabilities.Add {
			s.AddCapabilities = append(s.AddCapabilities, string(capability))
		}
		for _, capability := range sc.Capabilities.Drop {
			s.DropCapabilities = append(s.DropCapabilities, string(capability))
		}
	}
	return s
}

// networkPod is what the network needs to know of a pod.
func networkPod(pod *corev1.Pod, node string) (network.Pod, error) {
	p := network.Pod{
		UID: string(pod.UID), Namespace: pod.Namespace, Name: pod.Name,
		Hostname: hostname(pod, node), HostNetwork: pod.Spec.HostNetwork,
	}
	for _, c := range pod.Spec.Containers {
		for _, port := range c.Ports {
			if port.HostPort == 0 {
				continue
			}
			m := network.PortMapping{HostPort: uint16(port.HostPort), ContainerPort: uint16(port.ContainerPort), Protocol: string(port.Protocol)}
			if port.HostIP != "" {
				if err := m.HostIP.UnmarshalText([]byte(port.HostIP)); err != nil {
					return network.Pod{}, fmt.Errorf("hostIP of container %s: %w", c.Name, err)
				}
			}
			p.HostPorts = append(p.HostPorts, m)
		}
	}
	return p, nil
}
