// Package effects says what a plan does to what runs: how many pods are made,
// restarted, replaced, moved and deleted, and which of the new ones fit on no
// node. A dry run calls it.
//
// It is pure: it places pods with the scheduler's own code, on a state of its
// own, and binds none.
package effects

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evenkeel/evenkeel/reconciler"
	"github.com/evenkeel/evenkeel/schema"
)

// Compute works out the effects of a plan that was made against a base. Nodes
// are those to place pods on; nil means those of the base, as the plan leaves
// them.
func Compute(plan *reconciler.Plan, base *reconciler.Base, nodes []*corev1.Node) *reconciler.Effects {
	c := &computation{base: base, owned: map[types.UID][]*corev1.Pod{}, gone: map[schema.Key]bool{}, ended: map[schema.Key]int{}, names: map[*corev1.Pod]string{}}
	c.index()
	for _, change := range plan.Changes {
		c.change(change)
	}
	if nodes == nil {
		nodes = c.nodesAfter(plan)
	}
	c.schedule(nodes)
	return &c.out
}

type computation struct {
	base  *reconciler.Base
	pods  []*corev1.Pod // of the base, sorted
	owned map[types.UID][]*corev1.Pod
	gone  map[schema.Key]bool // pods that the plan ends
	ended map[schema.Key]int  // by controller of a base without a cluster: how many of its pods end
	fresh []*corev1.Pod       // that it makes
	names map[*corev1.Pod]string
	was   map[*corev1.Pod]string // node of the pod that a fresh one replaces
	out   reconciler.Effects

	namespaces []*corev1.Namespace // of the base, then those that the plan makes or changes
}

func (c *computation) index() {
	c.was = map[*corev1.Pod]string{}
	for _, key := range slices.SortedFunc(maps.Keys(c.base.Objects), schema.Key.Compare) {
		if namespace, ok := c.base.Objects[key].(*corev1.Namespace); ok {
			c.namespaces = append(c.namespaces, namespace)
		}
		pod, ok := c.base.Objects[key].(*corev1.Pod)
		if !ok || finished(pod) {
			continue
		}
		c.pods = append(c.pods, pod)
		if ref := metav1.GetControllerOfNoCopy(pod); ref != nil && pod.DeletionTimestamp == nil {
			c.owned[ref.UID] = append(c.owned[ref.UID], pod)
		}
	}
}

func finished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

func (c *computation) change(change reconciler.Change) {
	live := c.base.Live(change.Key)
	switch change.Key.Resource {
	case schema.Pods.Resource:
		c.pod(change, live)
	case schema.ReplicationControllers.Resource:
		c.controller(change, live)
	case schema.Nodes.Resource:
		if after, ok := change.Object.(*corev1.Node); ok && change.Action == reconciler.Update {
			c.drain(after, newNoExecute(live, after))
		}
		if change.Release {
			c.out.Notes = append(c.out.Notes, title(change.Key)+": it stays, as it is a machine; what was declared of it is taken back")
		}
	case schema.Namespaces.Resource:
		if change.Action == reconciler.Delete {
			c.empty(change.Key.Name)
		} else if after, ok := change.Object.(*corev1.Namespace); ok {
			c.namespaces = append(c.namespaces, after)
		}
	}
}

func (c *computation) pod(change reconciler.Change, live schema.Object) {
	switch change.Action {
	case reconciler.Create, reconciler.Replace:
		pod := change.Object.(*corev1.Pod)
		c.add(title(change.Key), pod)
		if old, ok := live.(*corev1.Pod); ok && change.Action == reconciler.Replace {
			c.was[pod] = old.Spec.NodeName
			c.gone[change.Key] = true
			c.out.New--
			c.out.Replaced++
		}
	case reconciler.Delete:
		c.remove(change.Key)
	case reconciler.Update:
		if slices.ContainsFunc(change.Fields, func(f reconciler.FieldChange) bool {
			return strings.HasPrefix(f.Path, "spec.containers") && strings.HasSuffix(f.Path, ".image")
		}) {
			c.out.Restarted++
		}
	case reconciler.Resize:
		if old, ok := live.(*corev1.Pod); ok && restartsForResize(change.Object.(*corev1.Pod), old) {
			c.out.Restarted++
		}
	}
}

// restartsForResize reports whether a container has to be started anew to get
// its other resources (Kubernetes: Container.resizePolicy).
func restartsForResize(pod, old *corev1.Pod) bool {
	for _, lists := range [][2][]corev1.Container{{pod.Spec.InitContainers, old.Spec.InitContainers}, {pod.Spec.Containers, old.Spec.Containers}} {
		for i, c := range lists[0] {
			before := lists[1][i].Resources // a resize keeps their order
			for _, p := range c.ResizePolicy {
				request, limit := c.Resources.Requests[p.ResourceName], c.Resources.Limits[p.ResourceName]
				changed := request.Cmp(before.Requests[p.ResourceName]) != 0 || limit.Cmp(before.Limits[p.ResourceName]) != 0
				if changed && p.RestartPolicy == corev1.RestartContainer {
					return true
				}
			}
		}
	}
	return false
}

// add takes in a pod that is made.
func (c *computation) add(owner string, pod *corev1.Pod) {
	c.fresh = append(c.fresh, pod)
	c.names[pod] = owner
	c.out.New++
}

// remove takes out a pod that ends, once.
func (c *computation) remove(key schema.Key) {
	if !c.gone[key] {
		c.gone[key] = true
		c.out.Deleted++
	}
}

// controller counts the pods that a controller makes or ends. A template that
// changed is for new pods alone, as Kubernetes has it.
func (c *computation) controller(change reconciler.Change, live schema.Object) {
	old, existed := live.(*corev1.ReplicationController)
	have := 0
	if existed {
		have = replicas(old)
	}
	want := have
	rc, _ := change.Object.(*corev1.ReplicationController)
	switch change.Action {
	case reconciler.Create, reconciler.Update:
		want = replicas(rc)
	case reconciler.Delete:
		have, want = c.has(old), 0 // a plan deletes only what is there
	}
	for i := have; i < want; i++ {
		c.add(title(change.Key), podOf(rc, i))
	}
	for i := want; i < have; i++ {
		c.end(old, i)
	}
	if kept := min(have, want); change.Action == reconciler.Update && kept > 0 && changesTemplate(change) {
		c.out.Notes = append(c.out.Notes, fmt.Sprintf("%s: the template changes, the pods that run (%d) do not: a replication controller makes only new pods from it; delete the old ones to replace them", title(change.Key), kept))
	}
}

// has is how many pods of a controller there are. A base without a cluster has
// those that were asked for.
func (c *computation) has(rc *corev1.ReplicationController) int {
	if rc.UID == "" {
		return replicas(rc)
	}
	return len(c.owned[rc.UID])
}

func (c *computation) end(rc *corev1.ReplicationController, i int) {
	if rc.UID == "" {
		c.out.Deleted++
		c.ended[schema.KeyOf(rc)]++
		return
	}
	if pods := c.owned[rc.UID]; i < len(pods) {
		c.remove(schema.Pods.Key(pods[i].Namespace, pods[i].Name))
	}
}

func changesTemplate(change reconciler.Change) bool {
	return slices.ContainsFunc(change.Fields, func(f reconciler.FieldChange) bool { return strings.HasPrefix(f.Path, "spec.template") })
}

func replicas(rc *corev1.ReplicationController) int {
	if rc.Spec.Replicas == nil {
		return 1
	}
	return int(*rc.Spec.Replicas)
}

// podOf is the i-th pod that a controller makes.
func podOf(rc *corev1.ReplicationController, i int) *corev1.Pod {
	owner := rc.UID
	if owner == "" {
		owner = types.UID("of " + rc.Namespace + "/" + rc.Name)
	}
	yes := true
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: rc.Namespace, Name: fmt.Sprintf("%s-%d (planned)", rc.Name, i),
		OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicationController", Name: rc.Name, UID: owner, Controller: &yes}},
	}}
	if rc.Spec.Template != nil {
		pod.Labels, pod.Spec = rc.Spec.Template.Labels, rc.Spec.Template.Spec
	}
	return pod
}

// newNoExecute are the taints of a node that end pods and that it has not now.
func newNoExecute(live schema.Object, after *corev1.Node) []corev1.Taint {
	var before []corev1.Taint
	if node, ok := live.(*corev1.Node); ok {
		before = node.Spec.Taints
	}
	return slices.DeleteFunc(slices.Clone(after.Spec.Taints), func(t corev1.Taint) bool {
		return t.Effect != corev1.TaintEffectNoExecute ||
			slices.ContainsFunc(before, func(b corev1.Taint) bool { return schema.SameTaint(&b, &t) && b.Value == t.Value })
	})
}

// staysUnder reports whether a pod is not ended by taints, now or later.
func staysUnder(pod *corev1.Pod, taints []corev1.Taint) bool {
	if pod.Annotations[schema.MirrorAnnotation] != "" {
		return true
	}
	for i := range taints {
		j := slices.IndexFunc(pod.Spec.Tolerations, func(t corev1.Toleration) bool { return schema.Tolerates(t, &taints[i]) })
		if j < 0 || pod.Spec.Tolerations[j].TolerationSeconds != nil {
			return false
		}
	}
	return true
}

// drain moves the pods that taints end off a node: those of a controller are
// made again, others are not.
func (c *computation) drain(node *corev1.Node, taints []corev1.Taint) {
	for _, pod := range c.pods {
		key := schema.Pods.Key(pod.Namespace, pod.Name)
		if pod.Spec.NodeName != node.Name || c.gone[key] || staysUnder(pod, taints) {
			continue
		}
		ref := metav1.GetControllerOfNoCopy(pod)
		if ref == nil {
			c.remove(key)
			continue
		}
		c.gone[key] = true
		again := pod.DeepCopy()
		again.Spec.NodeName = ""
		c.add(ref.Kind+" "+pod.Namespace+"/"+ref.Name, again)
		c.out.New--
		c.out.Moved++
	}
}

// empty ends the pods of a namespace that goes.
func (c *computation) empty(namespace string) {
	for _, pod := range c.pods {
		if pod.Namespace == namespace {
			c.remove(schema.Pods.Key(pod.Namespace, pod.Name))
		}
	}
}

// title is an object as people say it.
func title(key schema.Key) string {
	kind := key.Resource
	if k, ok := schema.KindOfResource(key.Resource); ok {
		kind = k.GVK.Kind
	}
	return kind + " " + strings.TrimPrefix(key.Namespace+"/"+key.Name, "/")
}
