package node

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/apiserver/failure"
	"github.com/evenkeel/evenkeel/schema/apiserver/feed"
)

// nodeMetrics is nodes of metrics.k8s.io: `kubectl top nodes`.
type nodeMetrics struct {
	rest.TableConvertor
	*Config
}

// podMetrics is pods of metrics.k8s.io: `kubectl top pods`.
type podMetrics struct {
	rest.TableConvertor
	*Config
}

var (
	_ rest.Lister = nodeMetrics{}
	_ rest.Getter = nodeMetrics{}
	_ rest.Lister = podMetrics{}
	_ rest.Getter = podMetrics{}
)

// NewNodeMetrics returns the storage of nodes in metrics.k8s.io.
func NewNodeMetrics(cfg *Config) rest.Storage {
	return nodeMetrics{rest.NewDefaultTableConvertor(metricsv1beta1.Resource("nodes")), cfg}
}

// NewPodMetrics returns the storage of pods in metrics.k8s.io.
func NewPodMetrics(cfg *Config) rest.Storage {
	return podMetrics{rest.NewDefaultTableConvertor(metricsv1beta1.Resource("pods")), cfg}
}

// New implements rest.Storage.
func (nodeMetrics) New() runtime.Object { return &metricsv1beta1.NodeMetrics{} }

// NewList implements rest.Lister.
func (nodeMetrics) NewList() runtime.Object { return &metricsv1beta1.NodeMetricsList{} }

// Destroy implements rest.Storage.
func (nodeMetrics) Destroy() {}

// NamespaceScoped implements rest.Scoper.
func (nodeMetrics) NamespaceScoped() bool { return false }

// GetSingularName implements rest.SingularNameProvider.
func (nodeMetrics) GetSingularName() string { return "node" }

// Get implements rest.Getter.
func (m nodeMetrics) Get(ctx context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	key := schema.Nodes.Key("", name)
	node, err := m.Config.Get(ctx, key)
	if err != nil {
		return nil, failure.Of(err, key)
	}
	summaries := m.summaries(ctx, []string{name})
	if out, ok := metricsOfNode(node, summaries[name]); ok {
		return out, nil
	}
	return nil, apierrors.NewNotFound(metricsv1beta1.Resource("nodes"), name)
}

// List implements rest.Lister.
func (m nodeMetrics) List(ctx context.Context, opts *metainternalversion.ListOptions) (runtime.Object, error) {
	nodes, err := m.selected(ctx, schema.Nodes, "", opts)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(nodes))
	for _, node := range nodes {
		names = append(names, node.GetName())
	}
	summaries := m.summaries(ctx, names)
	list := &metricsv1beta1.NodeMetricsList{Items: []metricsv1beta1.NodeMetrics{}}
	for _, node := range nodes {
		if item, ok := metricsOfNode(node, summaries[node.GetName()]); ok {
			list.Items = append(list.Items, *item)
		}
	}
	return list, nil
}

func metricsOfNode(node schema.Object, s *statsv1alpha1.Summary) (*metricsv1beta1.NodeMetrics, bool) {
	if s == nil {
		return nil, false
	}
	used, at, ok := usage(s.Node.CPU, s.Node.Memory)
	return &metricsv1beta1.NodeMetrics{
		ObjectMeta: metaOf(node), Timestamp: at, Window: metav1.Duration{Duration: window}, Usage: used,
	}, ok
}

// metaOf is the metadata of an object's metrics: whose they are, and that they
// were made now.
func metaOf(obj schema.Object) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: obj.GetName(), Namespace: obj.GetNamespace(), Labels: obj.GetLabels(),
		CreationTimestamp: metav1.NewTime(time.Now().UTC().Truncate(time.Second)),
	}
}

// selected returns the objects that a list's options select.
func (c *Config) selected(ctx context.Context, kind *schema.Kind, namespace string, opts *metainternalversion.ListOptions) ([]schema.Object, error) {
	objs, _, err := c.Hub.Objects(ctx, kind, namespace, 0, false)
	if err != nil || opts == nil {
		return objs, failure.Of(err, schema.Key{Resource: kind.Resource})
	}
	f := feed.Filter{Labels: opts.LabelSelector, Fields: opts.FieldSelector}
	var out []schema.Object
	for _, obj := range objs {
		if f.Matches(obj) {
			out = append(out, obj)
		}
	}
	return out, nil
}

// New implements rest.Storage.
func (podMetrics) New() runtime.Object { return &metricsv1beta1.PodMetrics{} }

// NewList implements rest.Lister.
func (podMetrics) NewList() runtime.Object { return &metricsv1beta1.PodMetricsList{} }

// Destroy implements rest.Storage.
func (podMetrics) Destroy() {}

// NamespaceScoped implements rest.Scoper.
func (podMetrics) NamespaceScoped() bool { return true }

// GetSingularName implements rest.SingularNameProvider.
func (podMetrics) GetSingularName() string { return "pod" }

// Get implements rest.Getter.
func (m podMetrics) Get(ctx context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	pod, err := m.pod(ctx, name)
	if err != nil {
		return nil, err
	}
	found := m.of(ctx, []schema.Object{pod})
	if len(found) == 0 {
		return nil, apierrors.NewNotFound(metricsv1beta1.Resource("pods"), fmt.Sprintf("%s/%s", pod.Namespace, name))
	}
	return &found[0], nil
}

// List implements rest.Lister.
func (m podMetrics) List(ctx context.Context, opts *metainternalversion.ListOptions) (runtime.Object, error) {
	pods, err := m.selected(ctx, schema.Pods, request.NamespaceValue(ctx), opts)
	if err != nil {
		return nil, err
	}
	return &metricsv1beta1.PodMetricsList{Items: m.of(ctx, pods)}, nil
}

// of returns the metrics of those pods whose nodes know them.
func (m podMetrics) of(ctx context.Context, pods []schema.Object) []metricsv1beta1.PodMetrics {
	var nodes []string
	seen := map[string]bool{"": true}
	for _, obj := range pods {
		if node := obj.(*corev1.Pod).Spec.NodeName; !seen[node] {
			seen[node] = true
			nodes = append(nodes, node)
		}
	}
	byUID := map[string]*statsv1alpha1.PodStats{}
	for _, s := range m.summaries(ctx, nodes) {
		for i := range s.Pods {
			byUID[s.Pods[i].PodRef.UID] = &s.Pods[i]
		}
	}
	out := []metricsv1beta1.PodMetrics{}
	for _, obj := range pods {
		if item, ok := metricsOfPod(obj, byUID[string(obj.GetUID())]); ok {
			out = append(out, item)
		}
	}
	return out
}

// metricsOfPod leaves out a pod of which not every container is measured yet.
func metricsOfPod(pod schema.Object, s *statsv1alpha1.PodStats) (metricsv1beta1.PodMetrics, bool) {
	if s == nil || len(s.Containers) == 0 {
		return metricsv1beta1.PodMetrics{}, false
	}
	out := metricsv1beta1.PodMetrics{ObjectMeta: metaOf(pod), Window: metav1.Duration{Duration: window}}
	for _, c := range s.Containers {
		used, at, ok := usage(c.CPU, c.Memory)
		if !ok {
			return out, false
		}
		if out.Timestamp.IsZero() || at.Before(&out.Timestamp) {
			out.Timestamp = at
		}
		out.Containers = append(out.Containers, metricsv1beta1.ContainerMetrics{Name: c.Name, Usage: used})
	}
	return out, true
}
