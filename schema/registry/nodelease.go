package registry

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/schema"
)

// A node's presence is a key on a lease of the store, which its agent keeps
// alive without writing anything. Kubernetes has a Lease in kube-node-lease for
// that, which a kubelet writes every ten seconds. Here one is made when somebody
// asks: what the agent said when it took the lease, and when it was last
// renewed, which the store knows.

// NodeLease returns the presence of a node as Kubernetes shows it. The error is
// NotFound for a node that is not present.
func (r *Registries) NodeLease(ctx context.Context, node string) (*coordinationv1.Lease, error) {
	kv, err := r.store.Get(ctx, schema.NodeLeasePrefix+node)
	if errors.Is(err, ErrNotFound) {
		return nil, noLease(node)
	}
	if err != nil {
		return nil, fmt.Errorf("lease of node %s: %w", node, err)
	}
	return r.nodeLease(ctx, kv)
}

// NodeLeases returns the presence of all nodes that are present, by name, and
// the revision that they are of.
func (r *Registries) NodeLeases(ctx context.Context) ([]schema.Object, int64, error) {
	kvs, revision, err := r.store.List(ctx, schema.NodeLeasePrefix, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("leases of nodes: %w", err)
	}
	out := make([]schema.Object, 0, len(kvs))
	for _, kv := range kvs {
		lease, err := r.nodeLease(ctx, kv)
		switch {
		case apierrors.IsNotFound(err):
			continue // it ran out meanwhile
		case err != nil:
			return nil, 0, err
		}
		out = append(out, lease)
	}
	return out, revision, nil
}

func (r *Registries) nodeLease(ctx context.Context, kv KV) (*coordinationv1.Lease, error) {
	node := strings.TrimPrefix(kv.Key, schema.NodeLeasePrefix)
	left, ttl, err := r.store.TimeLeft(ctx, kv.Lease)
	if errors.Is(err, ErrLeaseGone) {
		return nil, noLease(node)
	}
	if err != nil {
		return nil, fmt.Errorf("lease of node %s: %w", node, err)
	}
	lease := said(kv.Value)
	lease.Namespace, lease.Name, lease.ResourceVersion = corev1.NamespaceNodeLease, node, strconv.FormatInt(kv.Mod, 10)
	seconds, renewed := int32(ttl/time.Second), metav1.NewMicroTime(time.Now().Add(left-ttl))
	lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds, lease.Spec.RenewTime = &node, &seconds, &renewed
	return lease, nil
}

// said is what an agent said when it took its lease; one of an earlier release
// said nothing that can be read.
func said(value []byte) *coordinationv1.Lease {
	if obj, err := schema.DecodeObject(value); err == nil {
		if lease, ok := obj.(*coordinationv1.Lease); ok {
			return lease
		}
	}
	lease, _ := schema.Leases.New().(*coordinationv1.Lease)
	return lease
}

func noLease(node string) error {
	return apierrors.NewNotFound(coordinationv1.Resource("leases"), node)
}
