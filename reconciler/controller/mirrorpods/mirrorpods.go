// Package mirrorpods keeps, for every static pod that a node shows, a mirror
// in the registry of pods, so that people and the scheduler see it.
//
// The control plane's leader runs it. It changes nothing on the node: a mirror
// that is deleted comes back for as long as the node shows its pod.
package mirrorpods

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/reconciler/controller"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// Config says what the controller works on; all fields but Metrics are
// required.
type Config struct {
	Writer  controller.Writer
	Metrics *controller.Metrics
	Logger  *slog.Logger
}

type keeper struct{ Config }

// Run keeps the mirrors until ctx ends (nil) or the leader's term does
// (registry.ErrFenced).
func Run(ctx context.Context, cfg Config) error {
	k := keeper{cfg}
	loop := controller.Loop{
		Name: "mirrorpods", Mirror: cfg.Writer.Mirror, After: cfg.Writer.Registries.Term(),
		Kinds: []*schema.Kind{schema.Pods, schema.Nodes, schema.Namespaces}, Raw: schema.StaticPodsPrefix,
		Map: k.dirty, Reconcile: k.reconcile, Metrics: cfg.Metrics, Logger: cfg.Logger,
	}
	return loop.Run(ctx)
}

// dirty names the pods whose mirrors a change may concern.
func (k keeper) dirty(changed schema.Key) []schema.Key {
	switch changed.Resource {
	case schema.Pods.Resource:
		return []schema.Key{changed}
	case "":
		if _, key, ok := podOf(changed.Name); ok {
			return []schema.Key{key}
		}
		return nil
	}
	var keys []schema.Key
	for _, kv := range k.Writer.Mirror.Raw(schema.StaticPodsPrefix) {
		node, key, ok := podOf(kv.Key)
		if ok && (changed.Resource == schema.Nodes.Resource && changed.Name == node || changed.Name == key.Namespace) {
			keys = append(keys, key)
		}
	}
	return keys
}

// podOf reads the key under which a node shows a pod.
func podOf(path string) (node string, pod schema.Key, ok bool) {
	parts := strings.Split(strings.TrimPrefix(path, schema.StaticPodsPrefix), "/")
	if len(parts) != 3 {
		return "", schema.Key{}, false
	}
	return parts[0], schema.Pods.Key(parts[1], parts[2]), true
}

// shown returns the static pod of a key, or nil. Static pods carry their
// node's name, so that two nodes never show the same.
func (k keeper) shown(key schema.Key) (*corev1.Pod, error) {
	for _, kv := range k.Writer.Mirror.Raw(schema.StaticPodsPrefix) {
		node, of, ok := podOf(kv.Key)
		if !ok || of != key || k.Writer.Mirror.Get(schema.Nodes.Key("", node)) == nil {
			continue
		}
		obj, err := schema.DecodeObject(kv.Value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", kv.Key, err)
		}
		if pod, isPod := obj.(*corev1.Pod); isPod && pod.Spec.NodeName == node {
			return pod, nil
		}
	}
	return nil, nil
}

func (k keeper) reconcile(ctx context.Context, key schema.Key) error {
	pod, err := k.shown(key)
	if err != nil {
		return err
	}
	live, exists := k.Writer.Mirror.Get(key).(*corev1.Pod)
	of := ""
	if exists {
		of = live.Annotations[schema.MirrorAnnotation]
	}
	switch {
	case exists && of == "":
		return nil // somebody else's pod; the static one runs all the same
	case exists && (pod == nil || of != string(pod.UID)):
		now := int64(0)
		_, err = k.Writer.Commit(ctx, registry.Write{Delete: &registry.Deletion{Key: key, UID: live.UID, GraceSeconds: &now}})
		if apierrors.IsNotFound(err) {
			err = nil
		}
	case !exists && pod != nil:
		node := k.Writer.Mirror.Get(schema.Nodes.Key("", pod.Spec.NodeName))
		namespace := k.Writer.Mirror.Get(schema.Namespaces.Key("", key.Namespace))
		if node == nil || namespace == nil || namespace.GetDeletionTimestamp() != nil {
			return nil // it comes as a change
		}
		_, err = k.Writer.Commit(ctx, registry.Write{Create: Of(pod, node)})
	}
	if err != nil {
		return fmt.Errorf("mirror of %s: %w", key, err)
	}
	return nil
}

// Of returns the mirror of a static pod on its node, as Kubernetes makes it:
// owned by the node and not to be evicted. Pure.
func Of(static *corev1.Pod, node schema.Object) *corev1.Pod {
	controls := true
	mirror := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: static.Namespace, Name: static.Name, Labels: static.Labels, Annotations: maps.Clone(static.Annotations),
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.GetName(), UID: node.GetUID(), Controller: &controls}},
		},
		Spec: *static.Spec.DeepCopy(),
	}
	mirror.Annotations[schema.MirrorAnnotation] = string(static.UID)
	mirror.Spec.Tolerations = append(mirror.Spec.Tolerations, corev1.Toleration{
		Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute,
	})
	return mirror
}
