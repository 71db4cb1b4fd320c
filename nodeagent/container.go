package nodeagent

import (
	"fmt"
	"hash/fnv"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/network"
	"github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/nodeagent/volume"
)

// machine is what all containers of a node are made with.
type machine struct {
	node, hostIP, cgroupRoot, domain, seccompDir string
	memory                                       int64
	podPIDs                                      int64 // 0: any number
	allocatable                                  corev1.ResourceList
}

// factsOf is what a pod may ask about its place.
func (m machine) factsOf(podIP string) podFacts {
	return podFacts{podIP: podIP, hostIP: m.hostIP, node: m.node, allocatable: m.allocatable}
}

// prepared is what a pod has once it is prepared.
type prepared struct {
	sandbox network.Sandbox
	volumes map[string]string // host path by volume name
	files   []runtime.Mount   // hosts, resolv.conf, hostname, and memory that containers share
	links   map[string]string // variables of services
	pidNS   string            // that its containers share, or ""
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
	from := sources{refs: refs, facts: m.factsOf(p.sandbox.IP.String()), links: p.links, volumes: p.volumes}
	env, declared, err := environment(pod, c, image.Env, from)
	if err != nil {
		return runtime.Container{}, err
	}
	mounts, err := mountsFor(pod, c, p, declared, subPath)
	if err != nil {
		return runtime.Container{}, err
	}
	args := commandLine(c, image, declared)
	if len(args) == 0 {
		return runtime.Container{}, fmt.Errorf("image %s names no command and container %s sets none: %w", c.Image, c.Name, errConfig)
	}
	name, err := systemName(pod, m.node, m.domain)
	if err != nil {
		return runtime.Container{}, err
	}
	security := securityOf(pod, c, m.seccompDir)
	if security.SELinux != nil {
		keepLabels(pod, c, mounts, refs)
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
		Namespaces:   namespacesOf(pod, p),
		Hostname:     name,
		Sysctls:      sysctlsOf(pod),
		CgroupParent: m.podCgroup(string(pod.UID)),
		PodResources: m.podResources(pod),
		Resources:    m.resourcesOf(pod, c),
		Security:     security,
		StopSignal:   stopSignalOf(c, image),
	}, nil
}

// stopSignalOf is what a container is ended with: what its pod says, or its
// image; 0 for SIGTERM.
func stopSignalOf(c *corev1.Container, image runtime.Image) int {
	if c.Lifecycle != nil && c.Lifecycle.StopSignal != nil {
		return runtime.Signal(string(*c.Lifecycle.StopSignal))
	}
	return image.StopSignal
}

func namespacesOf(pod *corev1.Pod, p prepared) runtime.Namespaces {
	n := runtime.Namespaces{
		Net: p.sandbox.NetNS, IPC: p.sandbox.IPCNS, UTS: p.sandbox.UTSNS, PID: p.pidNS, HostIPC: pod.Spec.HostIPC, HostPID: pod.Spec.HostPID,
	}
	if p.sandbox.UserNS != "" {
		n.User, n.FirstUser, n.Users = p.sandbox.UserNS, p.sandbox.FirstUser, network.UsersPerPod
	}
	return n
}

// hasOwnUsers reports whether a pod has a user namespace of its own.
func hasOwnUsers(pod *corev1.Pod) bool { return pod.Spec.HostUsers != nil && !*pod.Spec.HostUsers }

// podResources are those of the pod's cgroup.
func (m machine) podResources(pod *corev1.Pod) runtime.Resources {
	r := podResources(pod)
	r.PIDs = m.podPIDs
	return r
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

// networkPod is what the network needs to know of a pod.
func (m machine) networkPod(pod *corev1.Pod) (network.Pod, error) {
	name, err := systemName(pod, m.node, m.domain)
	if err != nil {
		return network.Pod{}, err
	}
	p := network.Pod{
		UID: string(pod.UID), Namespace: pod.Namespace, Name: pod.Name,
		Hostname: name, HostNetwork: pod.Spec.HostNetwork, OwnUsers: hasOwnUsers(pod),
	}
	for _, c := range portOwners(pod) {
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

// portOwners are the containers whose ports count: those that go on running.
func portOwners(pod *corev1.Pod) []corev1.Container {
	out := slices.Clone(pod.Spec.Containers)
	for _, c := range pod.Spec.InitContainers {
		if isSidecar(&c) {
			out = append(out, c)
		}
	}
	return out
}
