package nodeagent

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evenkeel/evenkeel/nodeagent/logs"
	"github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/nodeagent/server"
	"github.com/evenkeel/evenkeel/nodeagent/stats"
	"github.com/evenkeel/evenkeel/nodeagent/volume"
	"github.com/evenkeel/evenkeel/schema"
)

// View is what an agent knows of its node, for those who serve it. Its methods
// are safe to call at once.
type View struct{ a *agent }

var _ server.Pods = View{}

// Trust is the PEM of the authority that the node's clients are checked
// against, as the control plane says; empty while it does not.
func (v View) Trust() []byte {
	b := v.a.bindings
	b.mu.Lock()
	defer b.mu.Unlock()
	trust, _ := b.refs[schema.ConfigMaps.Key("", schema.BindingTrustName)].(*corev1.ConfigMap)
	if trust == nil {
		return nil
	}
	return []byte(trust.Data[corev1.ServiceAccountRootCAKey])
}

// all returns the pods that are bound here and the node's own, in order of name.
func (b *bindings) all() []*corev1.Pod {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []*corev1.Pod
	for _, pods := range []map[string]*corev1.Pod{b.pods, b.static} {
		for _, pod := range pods {
			out = append(out, pod)
		}
	}
	slices.SortFunc(out, func(x, y *corev1.Pod) int { return strings.Compare(nameOf(x)+string(x.UID), nameOf(y)+string(y.UID)) })
	return out
}

// pod finds a pod by name and, if it is given, UID. Of two with one name it is
// the one that is not going.
func (v View) pod(namespace, name, uid string) (*corev1.Pod, error) {
	var found *corev1.Pod
	for _, pod := range v.a.bindings.all() {
		if pod.Namespace != namespace || pod.Name != name || uid != "" && string(pod.UID) != uid {
			continue
		}
		if found == nil || found.DeletionTimestamp != nil {
			found = pod
		}
	}
	if found == nil {
		return nil, fmt.Errorf("pod %q: %w", namespace+"/"+name, server.ErrNotFound)
	}
	return found, nil
}

// List implements server.Pods.
func (v View) List() *corev1.PodList {
	list := &corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}}
	for _, pod := range v.a.bindings.all() {
		one := *pod // its status alone is replaced
		if status, known := v.a.publisher.last(pod.UID); known {
			one.Status = status
		}
		list.Items = append(list.Items, one)
	}
	return list
}

// Network implements server.Pods.
func (v View) Network(namespace, name, uid string) (netns string, address netip.Addr, err error) {
	pod, err := v.pod(namespace, name, uid)
	if err != nil {
		return "", netip.Addr{}, err
	}
	if pod.Spec.HostNetwork {
		return "", v.a.cfg.NodeIP, nil
	}
	sandboxes, err := v.a.cfg.Network.List()
	if err != nil {
		return "", netip.Addr{}, fmt.Errorf("network of pod %q: %w", name, err)
	}
	for _, s := range sandboxes {
		if s.UID == string(pod.UID) {
			return s.NetNS, s.IP, nil
		}
	}
	return "", netip.Addr{}, fmt.Errorf("pod %q has no network: it is not running", name)
}

// Run implements server.Pods, by the rules by which the kubelet chooses whose
// log is shown.
func (v View) Run(namespace, podName, uid, container string, previous bool) (server.Run, error) {
	pod, err := v.pod(namespace, podName, uid)
	if err != nil {
		return server.Run{}, err
	}
	spec := containerNamed(pod, container)
	if spec.Image == "" {
		return server.Run{}, fmt.Errorf("container %q in pod %q: %w", container, podName, server.ErrNotFound)
	}
	status := v.containerStatus(pod.UID, container)
	run := server.Run{StdinOnce: spec.StdinOnce, Log: logs.Container{
		UID: string(pod.UID), Namespace: pod.Namespace, Pod: pod.Name, Name: container, TTY: spec.TTY,
	}}
	newest, known := v.newest(pod, container)
	switch {
	case known:
		run.Log.Attempt, run.Running = newest.Attempt, newest.State == runtime.Running
	case status.State.Terminated != nil || status.LastTerminationState.Terminated != nil:
		run.Log.Attempt = int(status.RestartCount)
	case previous:
		return server.Run{}, noPrevious(container, podName)
	default:
		return server.Run{}, fmt.Errorf("container %q in pod %q is waiting to start: %s", container, podName, waitsFor(status))
	}
	if previous {
		// One that ended and waits to be started again is itself the previous one.
		if status.State.Waiting == nil || run.Running {
			run.Log.Attempt--
		}
		run.Running = false
		if run.Log.Attempt < 0 {
			return server.Run{}, noPrevious(container, podName)
		}
	}
	run.Log.ID = ContainerID(pod, container, run.Log.Attempt)
	return run, nil
}

func noPrevious(container, pod string) error {
	return fmt.Errorf("previous terminated container %q in pod %q not found", container, pod)
}

func waitsFor(status corev1.ContainerStatus) string {
	if w := status.State.Waiting; w != nil && w.Reason != "" {
		return w.Reason
	}
	return "ContainerCreating"
}

// newest is the last run of a container that the runtime has.
func (v View) newest(pod *corev1.Pod, container string) (newest runtime.Status, known bool) {
	statuses, _ := v.a.observer.containers(string(pod.UID))
	for _, s := range statuses {
		if s.Name == container && (!known || s.Attempt > newest.Attempt) {
			newest, known = s, true
		}
	}
	return newest, known
}

func (v View) containerStatus(uid types.UID, container string) corev1.ContainerStatus {
	status, _ := v.a.publisher.last(uid)
	for _, list := range [][]corev1.ContainerStatus{status.InitContainerStatuses, status.ContainerStatuses, status.EphemeralContainerStatuses} {
		for _, c := range list {
			if c.Name == container {
				return c
			}
		}
	}
	return corev1.ContainerStatus{}
}

// Measured is what there is to measure: the pods that have a running container.
func (v View) Measured() []stats.Pod {
	var out []stats.Pod
	for _, pod := range v.a.bindings.all() {
		uid := string(pod.UID)
		p := stats.Pod{
			UID: uid, Namespace: pod.Namespace, Name: pod.Name, Cgroup: v.a.machine.podCgroup(uid),
			HostNetwork: pod.Spec.HostNetwork, Volumes: v.volumes(pod), Started: v.started(pod),
		}
		statuses, _ := v.a.observer.containers(uid)
		for _, s := range statuses {
			if s.State == runtime.Running && s.Name != runtime.PodInit {
				p.Containers = append(p.Containers, stats.Container{
					ID: s.ID, Name: s.Name, Attempt: s.Attempt, Cgroup: path.Join(p.Cgroup, s.ID), PID: s.PID, Started: s.StartedAt,
				})
			}
		}
		slices.SortFunc(p.Containers, func(x, y stats.Container) int { return strings.Compare(x.Name, y.Name) })
		if len(p.Containers) > 0 {
			out = append(out, p)
		}
	}
	return out
}

func (v View) started(pod *corev1.Pod) time.Time {
	if status, _ := v.a.publisher.last(pod.UID); status.StartTime != nil {
		return status.StartTime.Time
	}
	return pod.CreationTimestamp.Time
}

// volumes are those whose content is counted, as the kubelet counts them.
func (v View) volumes(pod *corev1.Pod) []stats.Volume {
	var out []stats.Volume
	for i := range pod.Spec.Volumes {
		source := &pod.Spec.Volumes[i]
		one := stats.Volume{Name: source.Name, Path: v.a.cfg.Volumes.Dir(string(pod.UID), source.Name)}
		lasting, ok, err := volume.FindLasting(pod, source, v.a.bindings)
		switch {
		case err != nil:
			continue
		case ok && lasting.Remote():
			one.Claim, one.FileSystem, one.Remote = lasting.Claim, true, true
		case ok && lasting.Local:
			one.Claim, one.FileSystem, one.Path = lasting.Claim, true, lasting.Path
		case source.EmptyDir != nil:
			one.Ephemeral = source.EmptyDir.Medium != corev1.StorageMediumMemory
		case source.ConfigMap != nil, source.DownwardAPI != nil:
			one.Ephemeral = true
		case source.Secret == nil && source.Projected == nil:
			continue
		}
		out = append(out, one)
	}
	return out
}
