package reconciler

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// held is a revision that waits for approval.
type held struct {
	set  *manifests.Set
	hash string
}

// Approval is a person's word that a held plan may pass. It is in the store
// until the plan is applied, however many tries that takes, and of whichever
// process: what is left of a plan that was cut off is another plan.
type Approval struct {
	Plan string    `json:"plan"` // hash
	At   time.Time `json:"at"`

	// Passed is the revision of which the plan has been let pass; "" as long as
	// none has.
	Passed string `json:"passed,omitempty"`
}

// Approve lets the held plan with a hash pass: the reconciler that runs on the
// store applies it, if it is still the same. An error names what is held.
func Approve(ctx context.Context, store registry.Store, hash string, now time.Time) (Head, error) {
	kvs, _, err := store.List(ctx, schema.SourcesPrefix, 0)
	if err != nil {
		return Head{}, fmt.Errorf("approve %s: %w", hash, err)
	}
	_, heads, err := Books(kvs)
	if err != nil {
		return Head{}, fmt.Errorf("approve %s: %w", hash, err)
	}
	waiting := []string{}
	for _, head := range heads {
		if head.Result != Held {
			continue
		}
		if head.Plan == hash {
			op, err := putJSON(approvalPath(head.Source), Approval{Plan: hash, At: now.UTC()})
			if err != nil {
				return Head{}, err
			}
			_, err = store.Commit(ctx, registry.Txn{Ops: []registry.Op{op}})
			return head, err
		}
		waiting = append(waiting, head.Plan+" of "+head.Source)
	}
	if len(waiting) == 0 {
		return Head{}, fmt.Errorf("approve %s: no plan is held", hash)
	}
	slices.Sort(waiting)
	return Head{}, fmt.Errorf("approve %s: no held plan has this hash; held: %s", hash, waiting)
}

// followApproval wakes the loop when somebody approves a plan of a source.
func (l *loop) followApproval(ctx context.Context, source string) error {
	sub := l.cfg.Mirror.SubscribeRaw(approvalPath(source))
	defer sub.Close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-sub.Ready():
			sub.Take()
			l.inbox.wake()
		}
	}
}

// takeApprovals tries what was held and is approved now. It reports whether
// there was any.
func (l *loop) takeApprovals() bool {
	taken := false
	for source, h := range l.held {
		if l.approved(source, h.hash) {
			l.trying[source] = h.set
			delete(l.held, source)
			taken = true
		}
	}
	return taken
}

func (l *loop) approved(source, hash string) bool {
	return slices.Contains(l.cfg.Approve, hash) || l.approval(source).Plan == hash
}

// approval is what the store has of a source's, or none.
func (l *loop) approval(source string) Approval {
	var approval Approval
	if kv, ok := l.cfg.Mirror.RawKey(approvalPath(source)); ok {
		if err := json.Unmarshal(kv.Value, &approval); err != nil {
			return Approval{} // none can be read from it
		}
	}
	return approval
}

// hold takes sources whose plan a guard does not let pass back to what is in
// force. It reports whether there was one.
func (l *loop) hold(ctx context.Context, plan *Plan) (bool, error) {
	if len(l.trying) == 0 {
		return false, nil
	}
	plan.Guard(l.inventory, l.candidates(ctx), l.cfg.MaxDelete)
	found := false
	for _, h := range plan.Holds {
		set := l.trying[h.Source]
		version := set.Revision + " " + set.Tree
		if l.approval(h.Source).Passed == version {
			continue
		}
		if l.approved(h.Source, h.Hash) {
			if err := l.pass(ctx, h, version); err != nil {
				return false, err
			}
			continue
		}
		l.mark(h.Source, func(head *Head) { head.Result, head.Plan, head.Message = Held, h.Hash, h.Message() })
		l.held[h.Source] = held{set: set, hash: h.Hash}
		delete(l.trying, h.Source)
		found = true
	}
	return found, nil
}

// pass notes in the store that a plan was let pass, before anything of it is
// applied.
func (l *loop) pass(ctx context.Context, h Hold, version string) error {
	approval := l.approval(h.Source)
	if approval.Plan != h.Hash {
		approval = Approval{Plan: h.Hash, At: time.Now().UTC()}
	}
	approval.Passed = version
	op, err := putJSON(approvalPath(h.Source), approval)
	if err != nil {
		return err
	}
	_, revision, err := l.cfg.Registries.Commit(ctx, []registry.Write{{Raw: &op}})
	if err != nil {
		return fmt.Errorf("let plan %s of %s pass: %w", h.Hash, h.Source, err)
	}
	return l.cfg.Mirror.WaitFor(ctx, revision)
}

func (l *loop) candidates(ctx context.Context) map[string]Candidate {
	out := map[string]Candidate{}
	for _, source := range l.cfg.Sources {
		if set := l.trying[source.Name()]; set != nil {
			out[source.Name()] = CandidateOf(ctx, source, set, l.heads[source.Name()].Revision)
		}
	}
	return out
}

// CandidateOf describes a source's set for the guards; inForce is the revision
// that it is to follow, or "".
func CandidateOf(ctx context.Context, source manifests.Source, set *manifests.Set, inForce string) Candidate {
	c := Candidate{Objects: len(set.Items)}
	if set.Commit == nil || inForce == "" || inForce == set.Revision {
		return c
	}
	rewritten := set.Commit.Forced
	if tree, ok := source.(lineage); ok {
		if descends, known := tree.Descends(ctx, set.Revision, inForce); known {
			rewritten = !descends
		}
	}
	if rewritten {
		c.Rewritten = inForce
	}
	return c
}

// lineage is a source that knows which of its revisions came from which; known
// is false where it cannot tell.
type lineage interface {
	Descends(ctx context.Context, revision, from string) (descends, known bool)
}
