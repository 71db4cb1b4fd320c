package reconciler

import (
	"context"
	"reflect"
	"time"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// takeReadings loads what was read since the last time. It reports whether
// what is to be in force changed.
func (l *loop) takeReadings(ctx context.Context) bool {
	fresh := false
	for source, r := range l.inbox.take() {
		if r.err != nil {
			l.mark(source, func(h *Head) { h.Result, h.Message = Unavailable, r.err.Error() })
			continue
		}
		l.snapshots[source] = r.snapshot
		fresh = true
	}
	return fresh && l.load(ctx)
}

// load parses all snapshots together, since an object may not be in two.
func (l *loop) load(ctx context.Context) bool {
	var snapshots []manifests.Snapshot
	for _, source := range l.cfg.Sources {
		if s, ok := l.snapshots[source.Name()]; ok {
			snapshots = append(snapshots, s)
		}
	}
	sets, findings := l.loader.Load(ctx, snapshots...)
	if ctx.Err() != nil {
		return false
	}
	clear(l.findings)
	for _, f := range findings {
		l.findings[f.Position.Source] = append(l.findings[f.Position.Source], f)
	}
	l.judge(snapshots, sets)
	return l.take(snapshots, sets) || l.full
}

// describe notes what was read of a source, before it is judged.
func (l *loop) describe(s manifests.Snapshot) {
	l.mark(s.Source, func(h *Head) {
		h.Location, h.Seen, h.Plan = s.Location, s.Revision, ""
		h.Findings = nil
		for _, f := range l.findings[s.Source] {
			if f.Severity == manifests.Error && len(h.Findings) < maxFindings {
				h.Findings = append(h.Findings, f.String())
			}
		}
	})
}

// maxFindings is how many errors a head keeps; all are in the log.
const maxFindings = 20

// mark changes a head in memory.
func (l *loop) mark(source string, change func(*Head)) {
	h := l.heads[source]
	h.Source = source
	change(&h)
	l.heads[source] = h
}

// refuse takes a source back to its last good set and says why. It reports
// false when it already was there.
func (l *loop) refuse(source string, problems []Problem) bool {
	l.mark(source, func(h *Head) {
		h.Result, h.Message, h.Findings = Failed, problems[0].Error(), nil
		for _, p := range problems[:min(len(problems), maxFindings)] {
			h.Findings = append(h.Findings, p.Error())
		}
	})
	_, trying := l.trying[source]
	delete(l.trying, source)
	return trying
}

// accept notes that what was tried is in force now.
func (l *loop) accept() {
	for source, set := range l.trying {
		l.good[source] = set
		delete(l.trying, source)
		l.mark(source, func(h *Head) {
			if h.Revision != set.Revision {
				h.Generation++
				h.Applied = time.Now().UTC().Truncate(time.Millisecond)
			}
			h.Result, h.Revision, h.Tree, h.Location, h.Objects = Applied, set.Revision, set.Tree, set.Location, len(set.Items)
			h.Seen, h.Message, h.Plan, h.Findings, h.Subject, h.Author = "", "", "", nil, "", ""
			if set.Commit != nil {
				h.Subject, h.Author = set.Commit.Subject, set.Commit.Author
			}
		})
	}
}

// writeHeads stores the heads that changed and tells the caller of Run.
func (l *loop) writeHeads(ctx context.Context) error {
	for source, head := range l.heads {
		if reflect.DeepEqual(l.stored[source], head) {
			continue
		}
		op, err := putJSON(headPath(source), head)
		if err != nil {
			return err
		}
		writes := []registry.Write{{Raw: &op}}
		if _, approved := l.cfg.Mirror.RawKey(approvalPath(source)); approved && head.Result == Applied {
			spent := registry.Delete(approvalPath(source))
			writes = append(writes, registry.Write{Raw: &spent})
		}
		_, revision, err := l.cfg.Registries.Commit(ctx, writes)
		if err != nil {
			return err
		}
		if err := l.cfg.Mirror.WaitFor(ctx, revision); err != nil {
			return err
		}
		l.stored[source] = head
		l.cfg.Synced(head, l.findings[source])
	}
	return nil
}
