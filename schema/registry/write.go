package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	kschema "k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/evenkeel/evenkeel/schema"
)

// Write is one change of a Batch; exactly one of Create, Update, UpdateStatus,
// UpdateEphemeral, Bind, Delete and Raw is set.
type Write struct {
	// Create makes an object; its namespace must exist. Of a corev1.Binding it
	// binds the pod, which is the result; bindings cannot be read or changed.
	Create schema.Object
	// Update sets an object's metadata and spec (or data); the status stays.
	// A resourceVersion must be the current one; without one it overwrites. An
	// update that takes the last finalizer from an object that is being deleted
	// removes it; the result is then its last state.
	Update schema.Object
	// Resize, with an Update of a pod, says that its CPU and memory may change,
	// which otherwise stay as they are, and nothing else of its spec.
	Resize bool
	// UpdateStatus sets the status alone of kinds that keep it in their own
	// key. The status of a bound pod, and of a node, is its agent's.
	UpdateStatus schema.Object
	// UpdateEphemeral sets the ephemeral containers of a pod, and nothing else
	// of it. Its resourceVersion is as Update's.
	UpdateEphemeral *corev1.Pod
	// Bind gives a pod to a node, on condition that the pod is as it was read
	// and the node there. It reads nothing from the store; what fails because
	// of it is a *BindError.
	Bind *Binding
	// Delete removes an object, or starts its graceful end.
	Delete *Deletion
	// Raw is a key that is no object: the reconciler's inventory.
	Raw *Op
	// Guard is one more condition for the whole batch. It may stand alone.
	Guard *Guard
	// Also, if set, returns operations that belong with the write, given the
	// object as it will be stored: what has to know its UID.
	Also func(stored schema.Object) ([]Op, error)
}

// write is a Write worked out: what to commit, and what then is there.
type write struct {
	guards []Guard
	ops    []Op
	// result is the object as stored, its revision set after the commit; nil
	// for one that is gone.
	result schema.Object
	path   string // of the object's own key
	was    string // resourceVersion before the write, "" if it makes the object
	given  *corev1.Service
	bind   *Binding
}

// Create makes an object and returns it as stored.
func (r *Registries) Create(ctx context.Context, obj schema.Object) (schema.Object, error) {
	return r.one(ctx, Write{Create: obj})
}

// Update writes an object and returns it as stored. See Write.Update.
func (r *Registries) Update(ctx context.Context, obj schema.Object) (schema.Object, error) {
	return r.one(ctx, Write{Update: obj})
}

// UpdateStatus writes an object's status. See Write.UpdateStatus.
func (r *Registries) UpdateStatus(ctx context.Context, obj schema.Object) (schema.Object, error) {
	return r.one(ctx, Write{UpdateStatus: obj})
}

// Delete deletes an object and returns it as it is then, or nil if it is gone.
func (r *Registries) Delete(ctx context.Context, d Deletion) (schema.Object, error) {
	return r.one(ctx, Write{Delete: &d})
}

// Mutate reads an object, lets change have it and writes it back, as often as
// somebody else was faster.
func (r *Registries) Mutate(ctx context.Context, key schema.Key, change func(schema.Object) error) (schema.Object, error) {
	for {
		obj, err := r.Get(ctx, key)
		if err != nil {
			return nil, err
		}
		obj = obj.DeepCopyObject().(schema.Object)
		if err := change(obj); err != nil {
			return nil, err
		}
		obj, err = r.Update(ctx, obj)
		if !apierrors.IsConflict(err) {
			return obj, err
		}
	}
}

// overwrites is how often a write without a resourceVersion is tried again
// when somebody else wrote between its read and its commit.
const overwrites = 20

func (r *Registries) one(ctx context.Context, w Write) (schema.Object, error) {
	for attempt := 0; ; attempt++ {
		results, _, err := r.commit(ctx, []Write{w})
		var stale *staleError
		if errors.As(err, &stale) && attempt < overwrites || takenName(err, w) && attempt < nameTries {
			continue
		}
		var refused *BindError
		switch {
		case errors.As(err, &refused):
			return nil, refused.Err
		case err != nil:
			return nil, r.whyTaken(ctx, w, unwrapStale(err))
		}
		return results[0], nil
	}
}

// whyTaken says of a name that is taken what Kubernetes says of it.
func (r *Registries) whyTaken(ctx context.Context, w Write, err error) error {
	var status *apierrors.StatusError
	if w.Create == nil || !apierrors.IsAlreadyExists(err) || !errors.As(err, &status) || status.ErrStatus.Details == nil {
		return err
	}
	if takenName(err, w) {
		return apierrors.NewGenerateNameConflict(kschema.GroupResource{Group: status.ErrStatus.Details.Group, Resource: status.ErrStatus.Details.Kind}, status.ErrStatus.Details.Name, 1)
	}
	kind, unknown := schema.KindOf(w.Create)
	if unknown != nil {
		return err
	}
	if cur, err := r.read(ctx, kind.Key(w.Create.GetNamespace(), w.Create.GetName())); err == nil && cur.object.GetDeletionTimestamp() != nil {
		status.ErrStatus.Message = "object is being deleted: " + status.ErrStatus.Message
	}
	return err
}

// Commit applies writes in one transaction: all or none. It returns the
// objects as stored, nil for deletions that are done and for raw writes, and
// the revision. More than MaxOps guards or operations is ErrTooLarge; see
// Cost.
func (r *Registries) Commit(ctx context.Context, writes []Write) ([]schema.Object, int64, error) {
	results, revision, err := r.commit(ctx, writes)
	return results, revision, unwrapStale(err)
}

// Prepare works writes out as Commit does and writes nothing: the error is one
// that Commit would have, but for conflicts with what others hold.
func (r *Registries) Prepare(ctx context.Context, writes []Write) error {
	_, err := r.prepareAll(ctx, writes, make([]int, len(writes)))
	return err
}

// Cost is an upper bound of the operations that a write needs in a Txn.
func Cost(w Write) int {
	if w.Raw != nil {
		return 1
	}
	for _, obj := range []schema.Object{w.Create, w.Update} {
		if svc, ok := obj.(*corev1.Service); ok {
			return 2 * (2 + len(svc.Spec.Ports))
		}
	}
	if w.Delete != nil && w.Delete.Key.Resource == schema.Services.Resource {
		return 20
	}
	return 3
}

// commit tries again with other addresses and ports for as long as those that
// it chose turn out to be taken.
func (r *Registries) commit(ctx context.Context, writes []Write) ([]schema.Object, int64, error) {
	choices := make([]int, len(writes))
	for {
		prepared, err := r.prepareAll(ctx, writes, choices)
		if err != nil {
			return nil, 0, err
		}
		revision, err := r.commitPrepared(ctx, prepared)
		if i := takenChoice(err, prepared); i >= 0 && choices[i] < claimAttempts {
			choices[i]++
			continue
		}
		if err != nil {
			return nil, 0, r.explain(err, prepared)
		}
		results := make([]schema.Object, len(writes))
		for i, p := range prepared {
			if p.result != nil && len(p.ops) > 0 {
				p.result.SetResourceVersion(versionAfter(revision, p.was))
			}
			results[i] = p.result
		}
		return results, revision, nil
	}
}

// versionAfter is what a write leaves an object at: a dry run leaves it as it
// was.
func versionAfter(revision int64, was string) string {
	if revision == 0 {
		return was
	}
	return fmt.Sprint(revision)
}

// prepareAll gives no generated name twice.
func (r *Registries) prepareAll(ctx context.Context, writes []Write, choices []int) ([]write, error) {
	prepared := make([]write, len(writes))
	accounts := newAccounts(r, writes)
	created := map[string]bool{}
	for i, w := range writes {
		p, err := r.prepare(ctx, w, choices[i], accounts)
		for err == nil && namedByUs(w) && created[p.path] {
			p, err = r.prepare(ctx, w, choices[i], accounts)
		}
		if err != nil {
			return nil, err
		}
		prepared[i], created[p.path] = p, true
	}
	return prepared, nil
}

// commitPrepared commits; nothing to write is revision 0. Two writes that
// claim the same address or port conflict as if one had been there before.
func (r *Registries) commitPrepared(ctx context.Context, prepared []write) (int64, error) {
	var txn Txn
	claimed := map[string]bool{}
	for _, p := range prepared {
		for _, op := range p.ops {
			if isClaim(op.Key) && claimed[op.Key] {
				return 0, &ConflictError{Key: op.Key}
			}
			claimed[op.Key] = true
		}
		txn.Guards = addGuards(txn.Guards, p.guards)
		txn.Ops = append(txn.Ops, p.ops...)
	}
	if len(txn.Ops) == 0 {
		return 0, nil
	}
	if r.fence != nil {
		txn.Guards = addGuards(txn.Guards, []Guard{*r.fence})
	}
	if err := r.events.on(ctx, r.store, txn.Ops); err != nil {
		return 0, err
	}
	revision, err := r.store.Commit(ctx, txn)
	r.events.failed(err)
	return revision, err
}

// takenChoice returns the last write that chose, without being asked for it,
// the address or port that a conflict is about; -1 if there is none.
func takenChoice(err error, prepared []write) int {
	var conflict *ConflictError
	if !errors.As(err, &conflict) || !isClaim(conflict.Key) {
		return -1
	}
	for i := len(prepared) - 1; i >= 0; i-- {
		p := prepared[i]
		claims := slices.ContainsFunc(p.guards, func(g Guard) bool { return g.Key == conflict.Key })
		if claims && !asksFor(p.given, conflict.Key) {
			return i
		}
	}
	return -1
}

// addGuards adds guards; of two on the same key the stricter one stays.
func addGuards(have, more []Guard) []Guard {
	for _, g := range more {
		i := slices.IndexFunc(have, func(h Guard) bool { return h.Key == g.Key })
		switch {
		case i < 0:
			have = append(have, g)
		case have[i].Mod == Present:
			have[i] = g
		}
	}
	return have
}

func (r *Registries) prepare(ctx context.Context, w Write, attempt int, accounts *accounts) (write, error) {
	p, err := r.prepareOne(ctx, w, attempt, accounts)
	if err != nil {
		return write{}, err
	}
	if w.Guard != nil {
		p.guards = append(p.guards, *w.Guard)
	}
	if w.Also != nil {
		also, err := w.Also(p.result)
		if err != nil {
			return write{}, err
		}
		p.ops = append(p.ops, also...)
	}
	return p, nil
}

func (r *Registries) prepareOne(ctx context.Context, w Write, attempt int, accounts *accounts) (write, error) {
	switch {
	case w.Create != nil:
		if b, ok := w.Create.(*corev1.Binding); ok {
			return r.prepareBinding(ctx, b)
		}
		return r.prepareCreate(ctx, w.Create, attempt, accounts)
	case w.Update != nil:
		return r.prepareUpdate(ctx, w, attempt)
	case w.UpdateStatus != nil:
		return r.prepareUpdateStatus(ctx, w.UpdateStatus)
	case w.UpdateEphemeral != nil:
		return r.prepareUpdateEphemeral(ctx, w.UpdateEphemeral)
	case w.Bind != nil:
		return r.prepareBind(*w.Bind)
	case w.Delete != nil:
		return r.prepareDelete(ctx, *w.Delete)
	case w.Raw != nil:
		return write{ops: []Op{*w.Raw}}, nil
	case w.Guard != nil:
		return write{}, nil
	}
	return write{}, errors.New("empty write")
}

// staleError is a conflict about the object itself, which a write that names no
// version may try again.
type staleError struct{ error }

func (e *staleError) Unwrap() error { return e.error }

func unwrapStale(err error) error {
	var stale *staleError
	if errors.As(err, &stale) {
		return stale.error
	}
	return err
}

// explain says in the objects' words which guard of a transaction failed.
func (r *Registries) explain(err error, prepared []write) error {
	var conflict *ConflictError
	if !errors.As(err, &conflict) {
		return err
	}
	if r.fence != nil && conflict.Key == r.fence.Key {
		return fmt.Errorf("%w: %w", ErrFenced, err)
	}
	for _, p := range prepared {
		e := p.explain(conflict)
		switch {
		case e == nil:
		case p.bind != nil:
			return &BindError{Key: schema.KeyOf(p.bind.Pod), Node: p.bind.Node, Err: e}
		default:
			return e
		}
	}
	return err
}

func (p write) explain(conflict *ConflictError) error {
	i := slices.IndexFunc(p.guards, func(g Guard) bool { return g.Key == conflict.Key })
	if i < 0 {
		return nil
	}
	if p.given != nil {
		if err, ok := claimError(p.given, conflict.Key); ok {
			return err
		}
	}
	if namespace, ok := strings.CutPrefix(conflict.Key, schema.TerminatingPrefix); ok {
		return p.terminating(namespace)
	}
	key, err := schema.ParsePath(conflict.Key)
	if err != nil {
		return nil
	}
	gr := groupResource(key.Resource)
	switch {
	case p.guards[i].Mod == Absent:
		return apierrors.NewAlreadyExists(gr, key.Name)
	case conflict.Current == 0:
		return apierrors.NewNotFound(gr, key.Name)
	}
	stale := apierrors.NewConflict(gr, key.Name, errors.New(modified))
	if p.path == conflict.Key {
		return &staleError{stale}
	}
	return stale
}
