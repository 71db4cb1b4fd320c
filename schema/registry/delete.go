package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evenkeel/evenkeel/schema"
)

// Deletion says what to delete and how.
type Deletion struct {
	Key             schema.Key
	UID             types.UID // if set, only the object with this UID
	ResourceVersion string    // if set, only at this version
	GraceSeconds    *int64    // pods: nil means the pod's own; 0 removes it at once, whatever its node says

	// Propagation says what becomes of what the object owns; the garbage
	// controller sees to it. "" is Background, unless a finalizer of the object
	// says otherwise. (Kubernetes' API takes "" for Orphan when a replication
	// controller is deleted in core/v1: that is the API's to say.)
	Propagation metav1.DeletionPropagation

	// Finalize is said of a namespace by whoever has seen that it is empty:
	// only finalizers in its metadata hold it then.
	Finalize bool
}

// Undeletable reports whether an object may never be deleted: the namespaces
// that Kubernetes' admission plugin NamespaceLifecycle keeps.
func Undeletable(key schema.Key) bool {
	return key.Resource == schema.Namespaces.Resource &&
		slices.Contains([]string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic}, key.Name)
}

func (r *Registries) prepareDelete(ctx context.Context, d Deletion) (write, error) {
	if d.Key.Resource == bindings {
		return write{}, notSupported("delete")
	}
	cur, err := r.read(ctx, d.Key)
	if err != nil {
		return write{}, err
	}
	if err := d.allowed(cur); err != nil {
		return write{}, err
	}
	p := write{path: d.Key.Path(), guards: []Guard{{Key: d.Key.Path(), Mod: cur.mod}}}
	marked := cur.object.DeepCopyObject().(schema.Object)
	switch o := marked.(type) {
	case *corev1.Pod:
		if !r.markPod(o, cur, d.GraceSeconds) {
			return write{result: cur.joined(), path: p.path}, nil
		}
		setPropagation(o, d.Propagation)
	case *corev1.Namespace:
		r.markNamespace(&p, o, d)
	default:
		r.mark(o, 0)
		setPropagation(o, d.Propagation)
	}
	return p.end(marked, cur)
}

// allowed checks what a deletion is on condition of.
func (d Deletion) allowed(cur stored) error {
	if d.UID != "" && d.UID != cur.object.GetUID() {
		return conflict(d.Key, fmt.Sprintf("the UID in the precondition (%s) does not match the UID in record (%s). The object might have been deleted and then recreated", d.UID, cur.object.GetUID()))
	}
	if err := checkVersion(d.Key, cur, d.ResourceVersion); err != nil {
		return err
	}
	if Undeletable(d.Key) {
		return apierrors.NewForbidden(groupResource(d.Key.Resource), d.Key.Name, errors.New("this namespace may not be deleted"))
	}
	return nil
}

// end removes an object, or stores it with the marks of its deletion where
// something still holds it. What is marked already is not written again.
func (p write) end(marked schema.Object, cur stored) (write, error) {
	if !held(marked) {
		p.remove(marked)
		return p, nil
	}
	if equality.Semantic.DeepEqual(marked, cur.object) {
		return write{result: cur.joined(), path: p.path}, nil
	}
	marked.SetResourceVersion("")
	p.was = cur.joined().GetResourceVersion()
	p.result = join(marked, cur.status, cur.present)
	return p, p.put(p.path, marked)
}

// held reports whether an object that is being deleted must still be there.
func held(obj schema.Object) bool {
	if ns, ok := obj.(*corev1.Namespace); ok && len(ns.Spec.Finalizers) > 0 {
		return true
	}
	grace := obj.GetDeletionGracePeriodSeconds()
	return len(obj.GetFinalizers()) > 0 || grace != nil && *grace > 0
}

// remove adds the operations that remove an object and what belongs to it.
func (p *write) remove(obj schema.Object) {
	p.ops = append(p.ops, Delete(p.path))
	switch o := obj.(type) {
	case *corev1.Pod:
		if node := o.Spec.NodeName; node != "" {
			p.ops = append(p.ops, Delete(schema.BindingPath(node, schema.KeyOf(o))), Delete(schema.PodStatusPath(node, o.Namespace, o.Name)))
		}
	case *corev1.Service:
		p.claim(nil, claimsOf(o))
	case *corev1.Node:
		p.ops = append(p.ops, Delete(schema.NodeStatusPrefix+o.Name))
	case *corev1.Namespace:
		p.ops = append(p.ops, Delete(schema.TerminatingPrefix+o.Name))
	}
}

// mark says that an object is being deleted, unless that is said already.
func (r *Registries) mark(obj schema.Object, graceSeconds int64) {
	if obj.GetDeletionTimestamp() != nil {
		return
	}
	obj.SetDeletionTimestamp(r.in(graceSeconds))
	obj.SetDeletionGracePeriodSeconds(&graceSeconds)
	if obj.GetGeneration() > 0 {
		obj.SetGeneration(obj.GetGeneration() + 1)
	}
}

func (r *Registries) in(seconds int64) *metav1.Time {
	return &metav1.Time{Time: r.cfg.Now().UTC().Truncate(time.Second).Add(time.Duration(seconds) * time.Second)}
}

// markPod marks a pod, which ends gracefully where it may run, or shortens
// what grace it has left: false if that would lengthen it. The rules are those
// of BeforeDelete and of the pods' strategy in the Kubernetes API server.
func (r *Registries) markPod(pod *corev1.Pod, cur stored, asked *int64) bool {
	if asked != nil && *asked < 0 {
		asked = new(int64(1))
	}
	if pod.DeletionTimestamp == nil {
		r.mark(pod, graceOf(cur.joined().(*corev1.Pod), asked))
		return true
	}
	left := pod.DeletionGracePeriodSeconds
	switch {
	case left == nil || *left == 0:
		return true
	case asked == nil || *asked >= *left:
		return false
	}
	begun := pod.DeletionTimestamp.Add(-time.Duration(*left) * time.Second)
	end, grace := metav1.Time{Time: begun.Add(time.Duration(*asked) * time.Second)}, *asked
	if now := r.in(0); end.Before(now) {
		end, grace = *now, min(grace, 1)
	}
	pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &end, &grace
	return true
}

// graceOf is how long a pod has to end: no time where nothing of it runs.
func graceOf(pod *corev1.Pod, asked *int64) int64 {
	switch {
	case pod.Spec.NodeName == "", pod.Status.Phase == corev1.PodSucceeded, pod.Status.Phase == corev1.PodFailed:
		return 0
	case asked != nil:
		return *asked
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		return *pod.Spec.TerminationGracePeriodSeconds
	}
	return corev1.DefaultTerminationGracePeriodSeconds
}

// markNamespace marks a namespace, in which nothing can be created from then
// on; the namespace controller empties it and deletes it with Finalize.
func (r *Registries) markNamespace(p *write, ns *corev1.Namespace, d Deletion) {
	if ns.DeletionTimestamp == nil {
		ns.DeletionTimestamp = r.in(0)
		ns.Status.Phase = corev1.NamespaceTerminating
		setPropagation(ns, d.Propagation)
		p.ops = append(p.ops, Put(schema.TerminatingPrefix+ns.Name, nil))
		if len(ns.Spec.Finalizers) == 0 {
			ns.Spec.Finalizers = []corev1.FinalizerName{corev1.FinalizerKubernetes}
		}
	} else if d.Finalize {
		ns.Spec.Finalizers = nil
	}
}

// setPropagation adds the finalizers with which the garbage controller does
// what a deletion says of what the object owns, and drops the others.
func setPropagation(obj schema.Object, policy metav1.DeletionPropagation) {
	want := map[string]bool{metav1.FinalizerOrphanDependents: false, metav1.FinalizerDeleteDependents: false}
	switch policy {
	case metav1.DeletePropagationOrphan:
		want[metav1.FinalizerOrphanDependents] = true
	case metav1.DeletePropagationForeground:
		want[metav1.FinalizerDeleteDependents] = true
	case metav1.DeletePropagationBackground:
	default:
		return
	}
	var finalizers []string
	for _, f := range obj.GetFinalizers() {
		if _, ours := want[f]; !ours {
			finalizers = append(finalizers, f)
		}
	}
	for _, f := range []string{metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents} {
		if want[f] {
			finalizers = append(finalizers, f)
		}
	}
	obj.SetFinalizers(finalizers)
}
