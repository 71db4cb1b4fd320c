// Package status says how things stand: which revision of which source is in
// force, which of its objects are ready, and why the others are not.
//
// `reconcile status` and `reconcile up` show it. It reads a mirror and writes
// nothing.
package status

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/evenkeel/evenkeel/reconciler"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// Report is how things stand at one moment.
type Report struct {
	Ready   bool              `json:"ready"` // every source is applied and every object of it ready
	Sources []reconciler.Head `json:"sources"`
	Nodes   []Node            `json:"nodes"`
	Objects []Object          `json:"objects"`
}

// Node is one machine.
type Node struct {
	Name    string `json:"name"`
	Address string `json:"address,omitempty"`
	Ready   bool   `json:"ready"`
	Pods    int    `json:"pods"`
	Reason  string `json:"reason,omitempty"` // why it is not ready
}

// Object is one object that a source declared.
type Object struct {
	Kind      string    `json:"kind"`
	Namespace string    `json:"namespace,omitempty"`
	Name      string    `json:"name"`
	Source    string    `json:"source"`
	File      string    `json:"file"`
	Line      int       `json:"line"`
	Ready     bool      `json:"ready"`
	Have      int       `json:"have"` // pods, endpoints or 1 that are ready
	Want      int       `json:"want"` // of so many
	Reason    string    `json:"reason,omitempty"`
	Address   string    `json:"address,omitempty"` // of a service
	Created   time.Time `json:"created,omitzero"`
}

// Compute reads a synced mirror of all under schema.Root.
func Compute(m *registry.Mirror) (Report, error) {
	inventory, heads, err := reconciler.Books(m.Raw(schema.SourcesPrefix))
	if err != nil {
		return Report{}, err
	}
	r := Report{Ready: len(heads) > 0, Sources: []reconciler.Head{}, Nodes: nodes(m), Objects: []Object{}}
	for _, head := range heads {
		r.Sources = append(r.Sources, head)
		r.Ready = r.Ready && head.Result == reconciler.Applied
	}
	slices.SortFunc(r.Sources, func(a, b reconciler.Head) int { return strings.Compare(a.Source, b.Source) })
	for key, owned := range inventory {
		o := object(m, key, owned)
		r.Objects = append(r.Objects, o)
		r.Ready = r.Ready && o.Ready
	}
	slices.SortFunc(r.Objects, byPlace)
	return r, nil
}

func byPlace(a, b Object) int {
	for _, c := range []int{
		strings.Compare(a.Source, b.Source), strings.Compare(a.Namespace, b.Namespace),
		strings.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name),
	} {
		if c != 0 {
			return c
		}
	}
	return 0
}

func nodes(m *registry.Mirror) []Node {
	out := []Node{}
	for _, n := range registry.ListOf[*corev1.Node](m, schema.Nodes, "") {
		node := Node{Name: n.Name, Pods: len(m.PodsOn(n.Name))}
		for _, a := range n.Status.Addresses {
			if a.Type == corev1.NodeInternalIP {
				node.Address = a.Address
			}
		}
		node.Reason = whyNodeNotReady(n)
		node.Ready = node.Reason == ""
		out = append(out, node)
	}
	return out
}

// whyNodeNotReady says what keeps a node from taking pods; "" if nothing does.
func whyNodeNotReady(n *corev1.Node) string {
	for _, c := range n.Status.Conditions {
		switch {
		case c.Type != corev1.NodeReady:
		case c.Status == corev1.ConditionTrue:
			return ""
		case n.Status.Addresses != nil: // an agent never leaves them out
			return cmp.Or(c.Message, "is not ready")
		}
	}
	return "node agent has not reported"
}

func object(m *registry.Mirror, key schema.Key, owned reconciler.Owned) Object {
	kind, _ := schema.KindOfResource(key.Resource)
	o := Object{
		Kind: kind.GVK.Kind, Namespace: key.Namespace, Name: key.Name,
		Source: owned.Source, File: owned.Entry.File, Line: owned.Entry.Line, Want: 1,
	}
	live := m.Get(key)
	if live == nil {
		o.Reason = "is not there"
		return o
	}
	o.Created = live.GetCreationTimestamp().Time
	switch obj := live.(type) {
	case *corev1.Pod:
		o.pod(obj)
	case *corev1.ReplicationController:
		o.controller(m, obj)
	case *corev1.Service:
		o.service(m, obj)
	case *corev1.Node:
		if o.Reason = whyNodeNotReady(obj); o.Reason == "" {
			o.Have = 1
		}
	default:
		o.Have = 1
	}
	o.Ready = o.Have >= o.Want && o.Reason == ""
	return o
}

func (o *Object) pod(pod *corev1.Pod) {
	if isReady(pod) || pod.Status.Phase == corev1.PodSucceeded {
		o.Have = 1
		return
	}
	o.Reason = WhyNotReady(pod)
}

// controller counts the pods that are there, not what its status says of them,
// which may be a moment behind.
func (o *Object) controller(m *registry.Mirror, rc *corev1.ReplicationController) {
	o.Want = 1
	if rc.Spec.Replicas != nil {
		o.Want = int(*rc.Spec.Replicas)
	}
	reasons := map[string]int{}
	ending := 0
	for _, key := range m.PodsOf(rc.UID) {
		pod, ok := m.Get(key).(*corev1.Pod)
		switch {
		case !ok:
		case pod.DeletionTimestamp != nil:
			ending++
		case isReady(pod):
			o.Have++
		default:
			reasons[WhyNotReady(pod)]++
		}
	}
	o.Reason = mostCommon(reasons)
	if o.Reason == "" && o.Have < o.Want {
		o.Reason = "pods are being created"
	}
	if o.Reason == "" && o.Have > o.Want {
		o.Reason = "pods are being removed"
	}
	if o.Reason == "" && ending > 0 {
		o.Reason = fmt.Sprintf("%d old pods are ending", ending)
	}
}

func mostCommon(reasons map[string]int) string {
	best := ""
	for reason, n := range reasons {
		if best == "" || n > reasons[best] || n == reasons[best] && reason < best {
			best = reason
		}
	}
	return best
}

// service counts the endpoints that serve.
func (o *Object) service(m *registry.Mirror, svc *corev1.Service) {
	o.Address = address(svc)
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		o.Have = 1
		return
	}
	for _, slice := range registry.ListOf[*discoveryv1.EndpointSlice](m, schema.EndpointSlices, svc.Namespace) {
		if slice.Labels[discoveryv1.LabelServiceName] != svc.Name {
			continue
		}
		for _, e := range slice.Endpoints {
			if e.Conditions.Ready == nil || *e.Conditions.Ready {
				o.Have++
			}
		}
	}
	if o.Have == 0 {
		o.Reason = "no pod is ready behind it"
	}
}

func address(svc *corev1.Service) string {
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return svc.Spec.ExternalName
	}
	var ports []string
	for _, p := range svc.Spec.Ports {
		port := fmt.Sprint(p.Port)
		if p.NodePort != 0 {
			port += fmt.Sprintf(":%d", p.NodePort)
		}
		ports = append(ports, port+"/"+string(p.Protocol))
	}
	return svc.Spec.ClusterIP + " " + strings.Join(ports, ",")
}

func isReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// WhyNotReady says in one line what keeps a pod from being ready.
func WhyNotReady(pod *corev1.Pod) string {
	if pod.DeletionTimestamp != nil {
		return "is ending"
	}
	if pod.Spec.NodeName == "" {
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
				return c.Message
			}
		}
		return "is being scheduled"
	}
	for _, c := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if why := whyNotRunning(c); why != "" {
			return why
		}
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReadyToStartContainers && c.Status == corev1.ConditionFalse && c.Message != "" {
			return c.Message
		}
	}
	if pod.Status.Phase == corev1.PodRunning {
		return "is running, not ready yet"
	}
	return "is starting"
}

func whyNotRunning(c corev1.ContainerStatus) string {
	switch w, t := c.State.Waiting, c.State.Terminated; {
	case w != nil && w.Message != "":
		why := w.Reason + ": " + w.Message
		if last := c.LastTerminationState.Terminated; last != nil {
			why += fmt.Sprintf(" (last exit code %d)", last.ExitCode)
		}
		return why
	case w != nil && w.Reason != "ContainerCreating" && w.Reason != "PodInitializing":
		return w.Reason
	case t != nil && t.ExitCode != 0:
		return fmt.Sprintf("container %s exited with code %d: %s", c.Name, t.ExitCode, t.Reason)
	}
	return ""
}

// Age says how long ago something was, as kubectl does.
func Age(then, now time.Time) string {
	if then.IsZero() {
		return "-"
	}
	return shortDuration(now.Sub(then))
}

func shortDuration(d time.Duration) string {
	switch {
	case d < time.Second:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 3*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
