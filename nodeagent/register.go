package nodeagent

import (
	"bytes"
	"context"
	"errors"
	"os"
	goruntime "runtime"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// register says that the node is there and whether it is ready: after
// everything that it should not have is gone. It writes nothing while nothing
// changes.
func (a *agent) register(ctx context.Context) error {
	said, read := []byte(nil), false
	var ready corev1.NodeCondition
	var seen runtimeSeen
	for ctx.Err() == nil {
		err := error(nil)
		if !read {
			if said, err = a.storedNode(ctx); err == nil {
				conditions := conditionsIn(said)
				a.pressure.adopt(conditions)
				ready, read = readyIn(conditions), true
			}
		}
		if err == nil {
			ready, said, err = a.reportNode(ctx, &seen, ready, said)
		}
		if err != nil && ctx.Err() == nil {
			a.cfg.Logger.Warn("node status not written, will be tried again", "error", err)
			wait(ctx, storeRetry)
			continue
		}
		select {
		case <-ctx.Done():
		case <-a.nodeChanged:
		case <-time.After(resync):
			read = false // somebody may have removed it
		}
	}
	return nil
}

// storedNode returns what the store has of the node's status, or nil.
func (a *agent) storedNode(ctx context.Context) ([]byte, error) {
	kv, err := a.cfg.Store.Get(ctx, schema.NodeStatusPrefix+a.cfg.Node)
	if errors.Is(err, registry.ErrNotFound) {
		return nil, nil
	}
	return kv.Value, err
}

// conditionsIn are those that a stored status tells of.
func conditionsIn(status []byte) []corev1.NodeCondition {
	obj, err := schema.DecodeObject(status)
	node, ok := obj.(*corev1.Node)
	if err != nil || !ok {
		return nil
	}
	return node.Status.Conditions
}

// readyIn is the readiness among conditions; the zero condition if there is
// none.
func readyIn(conditions []corev1.NodeCondition) corev1.NodeCondition {
	for _, c := range conditions {
		if c.Type == corev1.NodeReady {
			return c
		}
	}
	return corev1.NodeCondition{}
}

// runtimeGrace is how long the container runtime may be away before the node
// is no longer ready, as long as the kubelet gives it. What runs goes on running
// meanwhile: a restart of the runtime must not take the pods out of service.
const runtimeGrace = 30 * time.Second

// runtimeSeen is what is known of the container runtime.
type runtimeSeen struct {
	version string    // as it last answered
	away    time.Time // since when it does not; zero while it does
}

// ask asks the runtime again, and returns the error of one that has been away
// for too long.
func (s *runtimeSeen) ask(ctx context.Context, rt runtime.Runtime) error {
	version, err := rt.Version(ctx)
	switch {
	case err == nil:
		s.version, s.away = version, time.Time{}
		return nil
	case s.away.IsZero():
		s.away = time.Now()
	}
	if s.version != "" && time.Since(s.away) < runtimeGrace {
		return nil
	}
	return err
}

// reportNode writes the node's status if it is not what was said before.
func (a *agent) reportNode(ctx context.Context, seen *runtimeSeen, before corev1.NodeCondition, said []byte) (corev1.NodeCondition, []byte, error) {
	down := seen.ask(ctx, a.cfg.Runtime)
	if ctx.Err() != nil {
		return before, said, ctx.Err()
	}
	ready := readyCondition(before, down, isClosed(a.settled), time.Now())
	status, err := schema.Encode(a.nodeStatus(ready, seen.version))
	if err != nil || bytes.Equal(status, said) {
		return ready, said, err
	}
	op := registry.Put(schema.NodeStatusPrefix+a.cfg.Node, status)
	if _, err := a.cfg.Store.Commit(ctx, registry.Txn{Ops: []registry.Op{op}}); err != nil {
		return ready, said, err
	}
	return ready, status, nil
}

// readyCondition says whether the node takes pods. One that was ready when an
// earlier process of the agent ended stays so while this one takes over: who
// was away for too long has lost its lease, which counts for more. Pure.
func readyCondition(before corev1.NodeCondition, runtimeDown error, settled bool, now time.Time) corev1.NodeCondition {
	ready := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "AgentReady", Message: "node agent runs pods"}
	switch {
	case runtimeDown != nil:
		ready.Status, ready.Reason, ready.Message = corev1.ConditionFalse, "RuntimeDown", runtimeDown.Error()
	case !settled && before.Status == corev1.ConditionTrue:
		return before
	case !settled:
		ready.Status, ready.Reason, ready.Message = corev1.ConditionFalse, "Starting", "node agent has not taken over the node yet"
	}
	ready.LastTransitionTime = *stamp(now)
	if before.Status == ready.Status {
		ready.LastTransitionTime = before.LastTransitionTime
	}
	return ready
}

// holdLease keeps the node's presence up: first with the lease of an earlier
// process, if there is one, and from the time the node is ready with one of its
// own, with a new one whenever one is lost.
func (a *agent) holdLease(ctx context.Context) error {
	earlier, cancel := context.WithCancel(ctx)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		a.keepEarlierLease(earlier)
	}()
	defer func() { cancel(); <-kept }()
	select {
	case <-ctx.Done():
		return nil
	case <-a.settled:
	}
	cancel()
	for ctx.Err() == nil {
		err := a.leaseOnce(ctx)
		if err != nil && ctx.Err() == nil {
			a.cfg.Logger.Warn("node lease lost", "error", err)
			wait(ctx, storeRetry)
		}
	}
	return nil
}

// leaseOnce takes over the node's presence from an earlier process of the same
// node and holds it until it is lost. It is not revoked at the end: an agent
// that is restarted within the TTL was never away.
func (a *agent) leaseOnce(ctx context.Context) error {
	began := time.Now()
	lease, err := a.cfg.Store.Grant(ctx, a.cfg.LeaseTTL)
	if err != nil {
		return err
	}
	value, err := schema.Encode(a.nodeLease(began))
	if err != nil {
		return err
	}
	op := registry.Op{Key: schema.NodeLeasePrefix + a.cfg.Node, Value: value, Lease: lease}
	if _, err := a.cfg.Store.Commit(ctx, registry.Txn{Ops: []registry.Op{op}}); err != nil {
		return err
	}
	a.presence.renew(began)
	return registry.HoldLease(ctx, a.presence, lease, a.cfg.LeaseTTL)
}

// nodeLease is the node's presence as Kubernetes shows it. When it was last
// renewed is not in it: the store alone knows that.
func (a *agent) nodeLease(acquired time.Time) *coordinationv1.Lease {
	seconds := int32(a.cfg.LeaseTTL / time.Second)
	at := metav1.NewMicroTime(acquired)
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: a.cfg.Node, CreationTimestamp: *stamp(acquired)},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: &a.cfg.Node, LeaseDurationSeconds: &seconds, AcquireTime: &at},
	}
}

func (a *agent) nodeStatus(ready corev1.NodeCondition, runtimeVersion string) *corev1.Node {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: a.cfg.Node, Labels: a.nodeLabels()}}
	node.Status = corev1.NodeStatus{
		Capacity:    resources(a.cfg.Capacity),
		Allocatable: resources(less(a.cfg.Capacity, a.cfg.Reserved)),
		Conditions:  append(a.pressure.conditions(), ready),
		Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: a.cfg.NodeIP.String()},
			{Type: corev1.NodeHostName, Address: a.cfg.Node},
		},
		NodeInfo: nodeInfo(a.cfg.Version, runtimeVersion),
	}
	// The status is written when it changes: that is when it was last heard of.
	for i := range node.Status.Conditions {
		condition := &node.Status.Conditions[i]
		condition.LastHeartbeatTime = condition.LastTransitionTime
	}
	if a.server != nil {
		node.Annotations = map[string]string{schema.ServingAnnotation: a.server.CertificateHash()}
		node.Status.DaemonEndpoints.KubeletEndpoint.Port = a.server.Port()
	}
	return node
}

func (a *agent) nodeLabels() map[string]string {
	labels := map[string]string{
		corev1.LabelHostname: a.cfg.Node, corev1.LabelOSStable: goruntime.GOOS, corev1.LabelArchStable: goruntime.GOARCH,
	}
	for k, v := range a.cfg.Labels {
		labels[k] = v
	}
	return labels
}

func resources(c Capacity) corev1.ResourceList {
	list := corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewMilliQuantity(c.MilliCPU, resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(c.Memory, resource.BinarySI),
		corev1.ResourcePods:   *resource.NewQuantity(c.Pods, resource.DecimalSI),
	}
	if c.Storage > 0 {
		list[corev1.ResourceEphemeralStorage] = *resource.NewQuantity(c.Storage, resource.BinarySI)
	}
	return list
}

func less(a, b Capacity) Capacity {
	return Capacity{MilliCPU: a.MilliCPU - b.MilliCPU, Memory: a.Memory - b.Memory, Storage: a.Storage - b.Storage, Pods: a.Pods - b.Pods}
}

func nodeInfo(version, runtimeVersion string) corev1.NodeSystemInfo {
	return corev1.NodeSystemInfo{
		MachineID: firstLine("/etc/machine-id"), BootID: firstLine("/proc/sys/kernel/random/boot_id"),
		KernelVersion: firstLine("/proc/sys/kernel/osrelease"), OSImage: osImage(),
		OperatingSystem: goruntime.GOOS, Architecture: goruntime.GOARCH,
		ContainerRuntimeVersion: runtimeVersion, KubeletVersion: version,
	}
}

func firstLine(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(data), "\n")
	return line
}

func osImage() string {
	data, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return goruntime.GOOS
	}
	for line := range strings.Lines(string(data)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			return strings.Trim(name, `"`)
		}
	}
	return goruntime.GOOS
}
