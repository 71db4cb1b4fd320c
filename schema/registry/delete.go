package registry

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/schema"
)

func (r *Registries) prepareDelete(ctx context.Context, d Deletion) (write, error) {
	if d.Key.Resource == bindings {
		return write{}, notSupported("delete")
	}
	cur, err := r.read(ctx, d.Key)
	if err != nil {
		return write{}, err
	}
	if d.UID != "" && d.UID != cur.object.GetUID() {
		return write{}, conflict(d.Key, fmt.Sprintf("UID %s is gone, the object of that name now has %s", d.UID, cur.object.GetUID()))
	}
	if err := checkVersion(d.Key, cur, d.ResourceVersion); err != nil {
		return write{}, err
	}
	p := write{path: d.Key.Path(), guards: []Guard{{Key: d.Key.Path(), Mod: cur.mod}}}
	switch o := cur.object.(type) {
	case *corev1.Pod:
		return r.deletePod(p, o, cur, d.GraceSeconds)
	case *corev1.Namespace:
		if !d.Finalize {
			return r.terminateNamespace(p, o, cur)
		}
	case *corev1.Service:
		p.claim(nil, claimsOf(o))
	case *corev1.Node:
		p.ops = append(p.ops, Delete(schema.NodeStatusPrefix+o.Name))
	}
	p.ops = append(p.ops, Delete(p.path))
	return p, nil
}

// deletePod removes a pod that no node has, or that must go at once, with its
// binding and status; any other it marks, and its node ends it. Kubernetes:
// "Termination of Pods". A second deletion may shorten the grace, never
// lengthen it.
func (r *Registries) deletePod(p write, pod *corev1.Pod, cur stored, graceSeconds *int64) (write, error) {
	grace := int64(corev1.DefaultTerminationGracePeriodSeconds)
	if pod.Spec.TerminationGracePeriodSeconds != nil {
		grace = *pod.Spec.TerminationGracePeriodSeconds
	}
	if graceSeconds != nil {
		grace = *graceSeconds
	}
	if pod.Spec.NodeName == "" || (graceSeconds != nil && grace <= 0) {
		p.ops = append(p.ops, Delete(p.path))
		if node := pod.Spec.NodeName; node != "" {
			p.ops = append(p.ops, Delete(schema.BindingPath(node, schema.KeyOf(pod))))
			p.ops = append(p.ops, Delete(schema.PodStatusPath(node, pod.Namespace, pod.Name)))
		}
		return p, nil
	}
	if pod.DeletionTimestamp != nil && grace >= *pod.DeletionGracePeriodSeconds {
		return write{result: cur.joined(), path: p.path}, nil
	}
	marked := pod.DeepCopy()
	marked.DeletionTimestamp = &metav1.Time{Time: r.cfg.Now().UTC().Truncate(time.Second).Add(time.Duration(grace) * time.Second)}
	marked.DeletionGracePeriodSeconds = &grace
	marked.Generation++
	marked.ResourceVersion = ""
	p.result = join(marked, cur.status, false)
	return p, p.put(p.path, marked)
}

// terminateNamespace marks a namespace; the namespace controller empties it
// and deletes it with Finalize.
func (r *Registries) terminateNamespace(p write, ns *corev1.Namespace, cur stored) (write, error) {
	if ns.DeletionTimestamp != nil {
		return write{result: cur.joined(), path: p.path}, nil
	}
	marked := ns.DeepCopy()
	marked.DeletionTimestamp = &metav1.Time{Time: r.cfg.Now().UTC().Truncate(time.Second)}
	marked.Status.Phase = corev1.NamespaceTerminating
	marked.ResourceVersion = ""
	p.result = marked
	return p, p.put(p.path, marked)
}
