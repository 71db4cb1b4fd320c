package effects

import (
	"fmt"
	"maps"
	"regexp"
	"runtime"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/reconciler"
	"github.com/evenkeel/evenkeel/reconciler/scheduler"
	"github.com/evenkeel/evenkeel/schema"
)

// nodesAfter are the base's nodes as the plan leaves them, but for those of
// which it is not known what they have: they are declared, and no agent has
// reported.
func (c *computation) nodesAfter(plan *reconciler.Plan) []*corev1.Node {
	byName := map[string]*corev1.Node{}
	for _, obj := range c.base.Objects {
		if node, ok := obj.(*corev1.Node); ok {
			byName[node.Name] = node
		}
	}
	for _, change := range plan.Changes {
		node, ok := change.Object.(*corev1.Node)
		if ok && change.Action == reconciler.Update {
			byName[node.Name] = node
		}
	}
	var out []*corev1.Node
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		if len(byName[name].Status.Allocatable) > 0 {
			out = append(out, byName[name])
		}
	}
	return out
}

// schedule places what stays, then what is new.
func (c *computation) schedule(nodes []*corev1.Node) {
	if len(nodes) == 0 {
		return
	}
	c.out.Scheduled = true
	state := scheduler.NewState()
	for _, namespace := range c.namespaces {
		state.SetNamespace(namespace.Name, namespace)
	}
	for _, node := range nodes {
		state.SetNode(node.Name, node)
	}
	scheduler.Schedule(c.staying(state), state)
	result := scheduler.Schedule(c.fresh, state)
	for _, b := range result.Bindings {
		if was := c.was[b.Pod]; was != "" && was != b.Node {
			c.out.Moved++
		}
	}
	for _, f := range result.Unschedulable {
		u := reconciler.Unfit{Object: c.names[f.Pod], Pods: 1, Reason: f.Reason}
		i := slices.IndexFunc(c.out.Unfit, func(o reconciler.Unfit) bool { return o.Object == u.Object && o.Reason == u.Reason })
		if i < 0 {
			c.out.Unfit = append(c.out.Unfit, u)
		} else {
			c.out.Unfit[i].Pods++
		}
	}
}

// staying gives the pods that stay their room, and returns those of them that
// have no node among the known ones.
func (c *computation) staying(state *scheduler.State) []*corev1.Pod {
	var pending []*corev1.Pod
	for _, pod := range c.pods {
		key := schema.Pods.Key(pod.Namespace, pod.Name)
		switch {
		case c.gone[key]:
		case pod.Spec.NodeName != "" && state.HasNode(pod.Spec.NodeName):
			state.SetPod(key, pod)
		case pod.DeletionTimestamp == nil:
			again := pod.DeepCopy()
			again.Spec.NodeName = ""
			pending = append(pending, again)
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(c.base.Objects), schema.Key.Compare) {
		rc, ok := c.base.Objects[key].(*corev1.ReplicationController)
		if !ok || rc.UID != "" {
			continue
		}
		for i := range max(0, replicas(rc)-c.ended[key]) {
			pending = append(pending, podOf(rc, i))
		}
	}
	return pending
}

// maxPods is how many pods a node of ParseNodes takes, as a kubelet does.
const maxPods = 110

var nodesForm = regexp.MustCompile(`^(\d+)x([^,]+?)(?:cpu)?,(.+)$`)

// ParseNodes makes nodes as a person describes them: "3x4cpu,8Gi" are three,
// each with 4 cores and 8 GiB, of this machine's architecture. It returns nil for
// no description.
func ParseNodes(descriptions ...string) ([]*corev1.Node, error) {
	var out []*corev1.Node
	for _, text := range descriptions {
		nodes, err := parseNodes(text)
		if err != nil {
			return nil, err
		}
		out = append(out, nodes...)
	}
	return out, nil
}

func parseNodes(text string) ([]*corev1.Node, error) {
	parts := nodesForm.FindStringSubmatch(text)
	if parts == nil {
		return nil, fmt.Errorf("%q: want nodes as in 3x4cpu,8Gi", text)
	}
	count, err := strconv.Atoi(parts[1])
	if err != nil || count > 10_000 {
		return nil, fmt.Errorf("%q: at most 10000 nodes", text)
	}
	cpu, err := resource.ParseQuantity(parts[2])
	if err != nil {
		return nil, fmt.Errorf("%q: cpu %q: %w", text, parts[2], err)
	}
	memory, err := resource.ParseQuantity(parts[3])
	if err != nil {
		return nil, fmt.Errorf("%q: memory %q: %w", text, parts[3], err)
	}
	var out []*corev1.Node
	for i := range count {
		name := fmt.Sprintf("%s-%d", text, i)
		out = append(out, &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
				corev1.LabelHostname: name, corev1.LabelOSStable: "linux", corev1.LabelArchStable: runtime.GOARCH,
			}},
			Status: corev1.NodeStatus{
				Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
				Allocatable: corev1.ResourceList{corev1.ResourceCPU: cpu, corev1.ResourceMemory: memory, corev1.ResourcePods: *resource.NewQuantity(maxPods, resource.DecimalSI)},
			},
		})
	}
	return out, nil
}
