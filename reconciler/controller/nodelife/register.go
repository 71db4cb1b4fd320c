package nodelife

import (
	"context"
	"fmt"
	"maps"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// reconcile sees to it that a node whose agent reports exists, that it has a
// range of pod addresses, and that ranges of nodes that are gone are free.
func (l *life) reconcile(ctx context.Context, key schema.Key) error {
	m := l.Writer.Mirror
	node, _ := m.Stored(key).(*corev1.Node)
	status := m.NodeStatus(key.Name)
	switch {
	case node == nil && status != nil:
		return l.register(ctx, status)
	case node == nil:
		return l.freeClaims(ctx, key)
	case node.Spec.PodCIDR == "":
		return l.assign(ctx, node)
	case status != nil && node.Labels[corev1.LabelHostname] == "":
		return l.label(ctx, node, status)
	}
	if err := l.claimOwn(ctx, node); err != nil {
		return err
	}
	return l.taint(ctx, key)
}

// register makes the node of an agent that reported, with a range.
func (l *life) register(ctx context.Context, status *corev1.Node) error {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: status.Name, Labels: nodeLabels(status)}}
	cidr, err := l.free(status.Name)
	if err != nil {
		return err
	}
	setCIDR(node, cidr)
	if _, err := l.Writer.Commit(ctx, append(l.claim(cidr, node.Name), registry.Write{Create: node})...); err != nil {
		return fmt.Errorf("register node %s: %w", node.Name, err)
	}
	l.Logger.Info("node registered", "node", node.Name, "podCIDR", cidr)
	return nil
}

// nodeLabels are those that the agent reports and those that every node has.
func nodeLabels(status *corev1.Node) map[string]string {
	labels := map[string]string{
		corev1.LabelHostname:   status.Name,
		corev1.LabelOSStable:   status.Status.NodeInfo.OperatingSystem,
		corev1.LabelArchStable: status.Status.NodeInfo.Architecture,
	}
	maps.DeleteFunc(labels, func(_, v string) bool { return v == "" })
	maps.Copy(labels, status.Labels)
	return labels
}

// label gives a node that was declared before its agent reported the labels of
// the agent that it does not have. That of the host's name, which every node has,
// says that this was done: what somebody takes away later stays away.
func (l *life) label(ctx context.Context, node, status *corev1.Node) error {
	changed := node.DeepCopy()
	changed.Labels = nodeLabels(status)
	maps.Copy(changed.Labels, node.Labels)
	if changed.Labels[corev1.LabelHostname] == "" {
		changed.Labels[corev1.LabelHostname] = node.Name
	}
	if _, err := l.Writer.Commit(ctx, registry.Write{Update: changed}); err != nil {
		return fmt.Errorf("label node %s: %w", node.Name, err)
	}
	return nil
}

// assign gives a range to a node that was declared without one, and the labels
// of its agent that it does not have.
func (l *life) assign(ctx context.Context, node *corev1.Node) error {
	cidr, err := l.free(node.Name)
	if err != nil {
		return err
	}
	changed := node.DeepCopy()
	setCIDR(changed, cidr)
	if status := l.Writer.Mirror.NodeStatus(node.Name); status != nil {
		labels := nodeLabels(status)
		maps.Copy(labels, node.Labels)
		changed.Labels = labels
	}
	if _, err := l.Writer.Commit(ctx, append(l.claim(cidr, node.Name), registry.Write{Update: changed})...); err != nil {
		return fmt.Errorf("give %s to node %s: %w", cidr, node.Name, err)
	}
	return nil
}

func setCIDR(node *corev1.Node, cidr netip.Prefix) {
	node.Spec.PodCIDR = cidr.String()
	node.Spec.PodCIDRs = []string{cidr.String()}
}

// free returns the range that the node already claims, or the lowest one that
// nobody has.
func (l *life) free(node string) (netip.Prefix, error) {
	var taken []netip.Prefix
	for _, kv := range l.Writer.Mirror.Raw(schema.PodCIDRsPrefix) {
		cidr, err := claimedBy(kv.Key)
		if err != nil {
			return netip.Prefix{}, err
		}
		if string(kv.Value) == node {
			return cidr, nil
		}
		taken = append(taken, cidr)
	}
	for _, other := range registry.ListOf[*corev1.Node](l.Writer.Mirror, schema.Nodes, "") {
		if cidr, err := netip.ParsePrefix(other.Spec.PodCIDR); err == nil {
			taken = append(taken, cidr)
		}
	}
	cidr, ok := lowestFree(l.PodCIDR, taken)
	if !ok {
		return netip.Prefix{}, fmt.Errorf("no free range of pod addresses in %s for node %s", l.PodCIDR, node)
	}
	return cidr, nil
}

// claim claims a range, if the node does not hold it already.
func (l *life) claim(cidr netip.Prefix, node string) []registry.Write {
	path := claimPath(cidr)
	op := registry.Put(path, []byte(node))
	guard := registry.Guard{Key: path, Mod: registry.Absent}
	for _, kv := range l.Writer.Mirror.Raw(path) {
		if kv.Key == path {
			guard.Mod = kv.Mod
		}
	}
	return []registry.Write{{Raw: &op, Guard: &guard}}
}

// claimOwn claims the range of a node that came with one.
func (l *life) claimOwn(ctx context.Context, node *corev1.Node) error {
	cidr, err := netip.ParsePrefix(node.Spec.PodCIDR)
	if err != nil || !cidr.Addr().Is4() {
		return nil
	}
	for _, kv := range l.Writer.Mirror.Raw(claimPath(cidr)) {
		if kv.Key != claimPath(cidr) {
			continue
		}
		if holder := string(kv.Value); holder != node.Name {
			l.Recorder.Event(node, corev1.EventTypeWarning, "CIDRConflict", fmt.Sprintf("pod CIDR %s belongs to node %s", cidr, holder))
		}
		return nil
	}
	if _, err := l.Writer.Commit(ctx, l.claim(cidr, node.Name)...); err != nil {
		return fmt.Errorf("claim %s for node %s: %w", cidr, node.Name, err)
	}
	return nil
}

// freeClaims lets go of what a node that is gone had claimed.
func (l *life) freeClaims(ctx context.Context, key schema.Key) error {
	var writes []registry.Write
	for _, kv := range l.Writer.Mirror.Raw(schema.PodCIDRsPrefix) {
		if string(kv.Value) == key.Name {
			op := registry.Delete(kv.Key)
			writes = append(writes, registry.Write{Raw: &op, Guard: &registry.Guard{Key: kv.Key, Mod: kv.Mod}})
		}
	}
	if err := l.Writer.CommitAll(ctx, writes); err != nil {
		return fmt.Errorf("free the pod CIDRs of node %s: %w", key.Name, err)
	}
	return nil
}

// dirty names the node that a change concerns: a claim names it in its value,
// or did, in which case there is nothing to do.
func (l *life) dirty(changed schema.Key) []schema.Key {
	if changed.Resource != "" {
		return []schema.Key{changed}
	}
	for _, kv := range l.Writer.Mirror.Raw(changed.Name) {
		if kv.Key == changed.Name {
			return []schema.Key{schema.Nodes.Key("", string(kv.Value))}
		}
	}
	return nil
}
