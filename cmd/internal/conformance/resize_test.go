package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/evenkeel/evenkeel/schema/validation"
)

type quantities map[corev1.ResourceName]string

// resize gives a container of a pod that runs other requests and limits, as the
// API server does; what is not named stays.
func (w *world) resize(t *testing.T, pod *corev1.Pod, container int, requests, limits quantities) *corev1.Pod {
	t.Helper()
	next := pod.DeepCopy()
	next.Generation++
	r := next.Spec.Containers[container].Resources
	for name, request := range requests {
		r.Requests[name] = resource.MustParse(request)
	}
	for name, limit := range limits {
		r.Limits[name] = resource.MustParse(limit)
	}
	if errs := validation.ValidateResize(next, pod); len(errs) > 0 {
		t.Fatal(errs.ToAggregate())
	}
	w.bind(next)
	return next
}

// resizes is what a pod says of a resize: its conditions, restarts, and the
// limits that its containers have.
func resizes(p *corev1.Pod) (out []string) {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodResizePending || c.Type == corev1.PodResizeInProgress {
			out = append(out, fmt.Sprintf("%s %s", c.Type, c.Reason))
		}
	}
	for _, c := range p.Status.ContainerStatuses {
		if c.State.Running == nil || c.Resources == nil {
			return nil
		}
		out = append(out, fmt.Sprintf("%s %s %s %d", c.Name, c.Resources.Limits.Cpu(), c.Resources.Limits.Memory(), c.RestartCount))
	}
	return out
}

// limits are quota and limit of memory of the cgroups of a pod and of one of
// its containers, and that one's processes; "" with cgroup version 2, whose
// settings are tested by themselves.
func (w *world) limits(p *corev1.Pod, container string) (values, processes string) {
	if _, err := os.Stat("/sys/fs/cgroup/cpu/cpu.shares"); err != nil {
		return "", ""
	}
	read := func(parts ...string) string {
		data, err := os.ReadFile(filepath.Join(append([]string{"/sys/fs/cgroup"}, parts...)...))
		if err != nil {
			return err.Error()
		}
		return strings.TrimSpace(string(data))
	}
	parent := filepath.Join("evenkeel", w.name, "pod"+string(p.UID))
	own := filepath.Join(parent, strings.TrimPrefix(status(p, container).ContainerID, "containerd://"))
	for _, path := range []string{parent, own} {
		values += read("cpu", path, "cpu.cfs_quota_us") + " " + read("memory", path, "memory.limit_in_bytes") + " "
	}
	return values, read("memory", own, "cgroup.procs")
}

// inPlace: what a pod may use changes while it runs, in its cgroups and for the
// same processes; a container that asks for it is started anew.
func inPlace(t *testing.T, w *world) {
	pod := w.pod(t, "resize", `
terminationGracePeriodSeconds: 0
containers:
- {name: stays, image: IMAGE, args: [sleep], resources: {requests: {cpu: 10m, memory: 8Mi}, limits: {cpu: 100m, memory: 32Mi}}}
- name: anew
  image: IMAGE
  args: [sleep]
  resources: {requests: {cpu: 10m, memory: 8Mi}, limits: {cpu: 100m, memory: 32Mi}}
  resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}]
`)
	said := w.run(t, pod, "ready", ready)
	values, before := w.limits(said, "stays")
	step := func(name string, wantValues string, want ...string) {
		t.Helper()
		said := w.await(t, pod, name, func(p *corev1.Pod) bool {
			return p.Status.ObservedGeneration == pod.Generation && cmp.Equal(want, resizes(p))
		})
		got, now := w.limits(said, "stays")
		if values != "" && got != wantValues || now != before {
			t.Errorf("%s: cgroups %q, want %q; processes %q, before %q", name, got, wantValues, now, before)
		}
	}
	pod = w.resize(t, pod, 0, nil, quantities{"cpu": "300m", "memory": "64Mi"})
	step("grown", fmt.Sprintf("40000 %d 30000 %d ", 96<<20, 64<<20), "stays 300m 64Mi 0", "anew 100m 32Mi 0")
	pod = w.resize(t, pod, 1, nil, quantities{"cpu": "200m"})
	step("grown beside", fmt.Sprintf("50000 %d 30000 %d ", 96<<20, 64<<20), "stays 300m 64Mi 0", "anew 200m 32Mi 0")
	pod = w.resize(t, pod, 0, nil, quantities{"cpu": "50m", "memory": "16Mi"})
	step("shrunk", fmt.Sprintf("25000 %d 5000 %d ", 48<<20, 16<<20), "stays 50m 16Mi 0", "anew 200m 32Mi 0")
	pod = w.resize(t, pod, 1, nil, quantities{"memory": "48Mi"})
	step("started anew", fmt.Sprintf("25000 %d 5000 %d ", 64<<20, 16<<20), "stays 50m 16Mi 0", "anew 200m 48Mi 1")
	pod = w.resize(t, pod, 0, quantities{"cpu": "1000"}, quantities{"cpu": "1000"})
	const has = "stays 50m 16Mi 0"
	step("more than there is", fmt.Sprintf("25000 %d 5000 %d ", 64<<20, 16<<20), "PodResizePending Infeasible", has, "anew 200m 48Mi 1")
	tight := quantities{"cpu": "10m", "memory": "4Ki"}
	pod = w.resize(t, pod, 0, tight, quantities{"cpu": "50m", "memory": "4Ki"})
	step("less than is used", fmt.Sprintf("25000 %d 5000 %d ", 64<<20, 16<<20), "PodResizeInProgress Error", has, "anew 200m 48Mi 1")
	pod = w.resize(t, pod, 0, nil, quantities{"memory": "20Mi"})
	step("less than that", fmt.Sprintf("25000 %d 5000 %d ", 68<<20, 20<<20), "stays 50m 20Mi 0", "anew 200m 48Mi 1")
	w.delete(t, pod, 0)
}
