package replication

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/reconciler/controller"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// maxCreates is how many pods are made in one transaction.
const maxCreates = 40

// Config says what the controller works on; all fields but Metrics are
// required.
type Config struct {
	Writer   controller.Writer
	Recorder controller.Recorder
	Metrics  *controller.Metrics
	Logger   *slog.Logger
	Workers  int // default 4
}

// replicator keeps the replication controllers of a cluster.
type replicator struct {
	Config
	owners map[schema.Key]schema.Key // pods to the controllers that last owned them

	mu     sync.Mutex
	unsure map[schema.Key]bool // controllers of which a write may or may not have happened
}

// Run keeps the replication controllers until ctx ends (nil) or the leader's
// term does (registry.ErrFenced).
func Run(ctx context.Context, cfg Config) error {
	if cfg.Workers == 0 {
		cfg.Workers = 4
	}
	r := &replicator{Config: cfg, owners: map[schema.Key]schema.Key{}, unsure: map[schema.Key]bool{}}
	loop := controller.Loop{
		Name: "replication", Mirror: cfg.Writer.Mirror, After: cfg.Writer.Registries.Term(),
		Kinds: []*schema.Kind{schema.Pods, schema.ReplicationControllers}, Map: r.dirty, Reconcile: r.reconcile,
		Workers: cfg.Workers, Metrics: cfg.Metrics, Logger: cfg.Logger,
	}
	return loop.Run(ctx)
}

// dirty names the controllers that a change concerns: of a pod, the one that
// owns it, the one that did, and while it has none, all that might adopt it.
func (r *replicator) dirty(changed schema.Key) []schema.Key {
	if changed.Resource == schema.ReplicationControllers.Resource {
		return []schema.Key{changed}
	}
	var out []schema.Key
	if before, known := r.owners[changed]; known {
		out = append(out, before)
		delete(r.owners, changed)
	}
	pod, ok := r.Writer.Mirror.Get(changed).(*corev1.Pod)
	if !ok {
		return out
	}
	if ref := metav1.GetControllerOfNoCopy(pod); ref != nil {
		if ref.Kind != schema.ReplicationControllers.GVK.Kind {
			return out
		}
		owner := schema.ReplicationControllers.Key(pod.Namespace, ref.Name)
		r.owners[changed] = owner
		if len(out) > 0 && out[0] == owner {
			return out
		}
		return append(out, owner)
	}
	for _, rc := range registry.ListOf[*corev1.ReplicationController](r.Writer.Mirror, schema.ReplicationControllers, pod.Namespace) {
		if selects(rc, pod) {
			out = append(out, schema.KeyOf(rc))
		}
	}
	return out
}

func (r *replicator) reconcile(ctx context.Context, key schema.Key) error {
	rc, ok := r.Writer.Mirror.Get(key).(*corev1.ReplicationController)
	if !ok || rc.Spec.Template == nil {
		return nil
	}
	if err := r.makeSure(ctx, key, rc); err != nil {
		return err
	}
	rc, ok = r.Writer.Mirror.Get(key).(*corev1.ReplicationController)
	if !ok {
		return nil
	}
	plan := Compute(rc, r.pods(rc), time.Now())
	var failure error
	if !plan.Done() {
		if failure = r.carryOut(ctx, rc, plan); unknown(failure) {
			r.mark(key, true)
		}
		plan = Compute(rc, r.pods(rc), time.Now())
	}
	if failure != nil && !refused(failure) {
		return failure
	}
	if err := r.report(ctx, rc, plan.Status, failure); err != nil && failure == nil {
		return err
	}
	if failure == nil && plan.Again > 0 {
		return controller.Later{After: plan.Again}
	}
	return failure
}

// pods are all that a controller owns or might adopt.
func (r *replicator) pods(rc *corev1.ReplicationController) []*corev1.Pod {
	var out []*corev1.Pod
	m := r.Writer.Mirror
	for _, keys := range [][]schema.Key{m.PodsOf(rc.UID), m.PodsWithoutController(rc.Namespace)} {
		for _, key := range keys {
			if pod, ok := m.Get(key).(*corev1.Pod); ok {
				out = append(out, pod)
			}
		}
	}
	return out
}

// carryOut does what a plan says, on condition that the controller is as it
// was when the plan was made.
func (r *replicator) carryOut(ctx context.Context, rc *corev1.ReplicationController, plan Plan) error {
	guard := controller.Unchanged(rc)
	var writes []registry.Write
	for _, pod := range plan.Adopt {
		writes = append(writes, registry.Write{Update: adopted(r.stored(pod), rc), Guard: guard})
	}
	for _, pod := range plan.Release {
		writes = append(writes, registry.Write{Update: released(r.stored(pod), rc)})
	}
	if err := r.Writer.CommitAll(ctx, writes); err != nil {
		return fmt.Errorf("adopt %d and release %d pods of %s: %w", len(plan.Adopt), len(plan.Release), schema.KeyOf(rc), err)
	}
	if err := r.remove(ctx, rc, plan.Delete, guard); err != nil {
		return err
	}
	return r.create(ctx, rc, plan.Create, guard)
}

// stored is the pod without its agent's status, to be written back.
func (r *replicator) stored(pod *corev1.Pod) *corev1.Pod {
	if own, ok := r.Writer.Mirror.Stored(schema.KeyOf(pod)).(*corev1.Pod); ok && own.UID == pod.UID {
		return own
	}
	return pod
}

func (r *replicator) remove(ctx context.Context, rc *corev1.ReplicationController, pods []*corev1.Pod, guard *registry.Guard) error {
	var writes []registry.Write
	for _, pod := range pods {
		writes = append(writes, registry.Write{Delete: &registry.Deletion{Key: schema.KeyOf(pod), UID: pod.UID}, Guard: guard})
	}
	if err := r.Writer.CommitAll(ctx, writes); err != nil {
		return fmt.Errorf("delete %d pods of %s: %w", len(pods), schema.KeyOf(rc), err)
	}
	for _, pod := range pods {
		r.Recorder.Event(rc, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: "+pod.Name)
	}
	return nil
}

// create makes pods, none of them in a namespace that is on its way out.
func (r *replicator) create(ctx context.Context, rc *corev1.ReplicationController, n int, guard *registry.Guard) error {
	ns := r.Writer.Mirror.Get(schema.Namespaces.Key("", rc.Namespace))
	if ns == nil || ns.GetDeletionTimestamp() != nil {
		return nil
	}
	for n > 0 {
		batch := min(n, maxCreates)
		made, err := r.createBatch(ctx, rc, batch, guard)
		for errors.Is(err, registry.ErrTooLarge) && batch > 1 {
			batch /= 2
			made, err = r.createBatch(ctx, rc, batch, guard)
		}
		if err != nil {
			if refused(err) {
				r.Recorder.Event(rc, corev1.EventTypeWarning, "FailedCreate", "Error creating: "+err.Error())
			}
			return fmt.Errorf("create %d pods of %s: %w", n, schema.KeyOf(rc), err)
		}
		for _, pod := range made {
			r.Recorder.Event(rc, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: "+pod.GetName())
		}
		n -= batch
	}
	return nil
}

func (r *replicator) createBatch(ctx context.Context, rc *corev1.ReplicationController, n int, guard *registry.Guard) ([]schema.Object, error) {
	writes := make([]registry.Write, n)
	for i := range writes {
		writes[i] = registry.Write{Create: NewPod(rc), Guard: guard}
	}
	return r.Writer.Commit(ctx, writes...)
}

// report writes the status, unless it is what is there.
func (r *replicator) report(ctx context.Context, rc *corev1.ReplicationController, status corev1.ReplicationControllerStatus, failure error) error {
	status.Conditions = withFailure(rc.Status.Conditions, failure)
	if equality.Semantic.DeepEqual(rc.Status, status) {
		return nil
	}
	changed := *rc
	changed.Status = status
	if _, err := r.Writer.Commit(ctx, registry.Write{UpdateStatus: &changed}); err != nil {
		return fmt.Errorf("status of %s: %w", schema.KeyOf(rc), err)
	}
	return nil
}

// withFailure sets the condition ReplicaFailure while pods cannot be made.
func withFailure(conditions []corev1.ReplicationControllerCondition, failure error) []corev1.ReplicationControllerCondition {
	var out []corev1.ReplicationControllerCondition
	since := metav1.Time{Time: time.Now().UTC().Truncate(time.Second)}
	for _, c := range conditions {
		if c.Type != corev1.ReplicationControllerReplicaFailure {
			out = append(out, c)
			continue
		}
		since = c.LastTransitionTime
	}
	if failure == nil {
		return out
	}
	return append(out, corev1.ReplicationControllerCondition{
		Type: corev1.ReplicationControllerReplicaFailure, Status: corev1.ConditionTrue,
		LastTransitionTime: since, Reason: "FailedCreate", Message: failure.Error(),
	})
}
