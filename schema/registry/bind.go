package registry

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/schema"
)

// Binding gives a pod to a node.
type Binding struct {
	Pod  *corev1.Pod // as read, not changed; it must be unbound and not on its way out
	Node string
}

// BindError tells which binding of a batch could not be made. Err is a
// conflict where the pod has changed since it was read, and not found where
// the pod or the node (Err's details say which kind) is gone.
type BindError struct {
	Key  schema.Key // of the pod
	Node string
	Err  error
}

func (e *BindError) Error() string { return fmt.Sprintf("bind %s to %s: %v", e.Key, e.Node, e.Err) }

// Unwrap returns Err.
func (e *BindError) Unwrap() error { return e.Err }

// Bind makes one binding and returns the pod as stored. See Write.Bind; the
// error is BindError.Err.
func (r *Registries) Bind(ctx context.Context, b Binding) (schema.Object, error) {
	return r.one(ctx, Write{Bind: &b})
}

// bindings is the resource of corev1.Binding, which can be created and nothing
// else: what it does is then part of the pod.
const bindings = "bindings"

func notSupported(action string) error {
	return apierrors.NewMethodNotSupported(groupResource(bindings), action)
}

// prepareBinding carries out the creation of a Kubernetes Binding: the pod of
// its name, and of its UID if it has one, goes to its target.
func (r *Registries) prepareBinding(ctx context.Context, b *corev1.Binding) (write, error) {
	if b.Target.Name == "" || (b.Target.Kind != "" && b.Target.Kind != schema.Nodes.GVK.Kind) {
		return write{}, apierrors.NewBadRequest("the target of a binding must be a Node, by name")
	}
	cur, err := r.read(ctx, schema.Pods.Key(b.Namespace, b.Name))
	if err != nil {
		return write{}, err
	}
	pod := cur.object.(*corev1.Pod)
	if b.UID != "" && b.UID != pod.UID {
		return write{}, conflict(schema.KeyOf(pod), fmt.Sprintf("UID %s is gone, the pod of that name now has %s", b.UID, pod.UID))
	}
	return r.prepareBind(Binding{Pod: pod, Node: b.Target.Name})
}

// prepareBind reads nothing: that the pod is as it was read, and the node
// there, is guarded.
func (r *Registries) prepareBind(b Binding) (write, error) {
	key := schema.KeyOf(b.Pod)
	refuse := func(err error) (write, error) { return write{}, &BindError{Key: key, Node: b.Node, Err: err} }
	mod := revisionOf(b.Pod.ResourceVersion)
	switch {
	case mod == 0 || b.Node == "":
		return refuse(apierrors.NewBadRequest("a binding needs a node and a pod with its resourceVersion"))
	case b.Pod.Spec.NodeName != "":
		return refuse(conflict(key, "the pod is already bound to "+b.Pod.Spec.NodeName))
	case b.Pod.DeletionTimestamp != nil:
		return refuse(conflict(key, "the pod is being deleted"))
	}
	bound := b.Pod.DeepCopy()
	bound.ResourceVersion = ""
	bound.Spec.NodeName = b.Node
	bound.Status.Conditions = withScheduled(bound.Status.Conditions, metav1.Time{Time: r.cfg.Now().UTC().Truncate(1e9)})
	p := write{
		result: bound,
		bind:   &b,
		was:    b.Pod.ResourceVersion,
		guards: []Guard{{Key: key.Path(), Mod: mod}, {Key: schema.Nodes.Key("", b.Node).Path(), Mod: Present}},
	}
	return p, p.put(key.Path(), bound)
}

func withScheduled(conditions []corev1.PodCondition, now metav1.Time) []corev1.PodCondition {
	out := slices.DeleteFunc(slices.Clone(conditions), func(c corev1.PodCondition) bool { return c.Type == corev1.PodScheduled })
	return append(out, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: now})
}
