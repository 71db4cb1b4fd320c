package reconciler

import (
	"fmt"
	"slices"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema"
)

// judge looks at the new sets, together with what stays of the others and with
// the cluster, before they are tried. It adds what it finds to the findings.
func (l *loop) judge(snapshots []manifests.Snapshot, sets []*manifests.Set) {
	l.unsure = false
	if l.cfg.Checks == nil {
		return
	}
	var together []*manifests.Set
	fresh := map[string]bool{}
	for _, set := range sets {
		if l.findings[set.Source].HasErrors() {
			set = l.good[set.Source]
		} else if l.isNew(set) {
			fresh[set.Source] = true
		}
		if set != nil {
			together = append(together, set)
		}
	}
	if len(fresh) == 0 {
		return
	}
	found := l.cfg.Checks.Check(together, l.inventory)
	found = slices.DeleteFunc(found, func(d manifests.Diagnostic) bool { return !fresh[d.Position.Source] })
	l.unsure = found.HasErrors()
	manifests.Quote(found, snapshots...)
	for _, d := range found {
		l.findings[d.Position.Source] = append(l.findings[d.Position.Source], d)
	}
}

// moved tells the checks of objects that are others than before, or whose
// entries in the inventory are.
func (l *loop) moved(keys []schema.Key) {
	if l.cfg.Checks != nil {
		l.cfg.Checks.Moved(keys, l.inventory)
	}
}

// isNew reports whether a set is another than the one in force.
func (l *loop) isNew(set *manifests.Set) bool {
	before := l.inForce()[set.Source]
	return before == nil || before.Tree != set.Tree || before.Revision != set.Revision
}

// mayHelp reports whether a change in the cluster can make right what the
// checks refused.
func (l *loop) mayHelp(keys []schema.Key) bool {
	return l.unsure && slices.ContainsFunc(keys, func(key schema.Key) bool {
		switch key.Resource {
		case schema.Namespaces.Resource, schema.ConfigMaps.Resource, schema.Secrets.Resource, schema.Services.Resource, schema.Nodes.Resource:
			return true
		}
		return false
	})
}

// take tries the sets that may be, and says of the others why not. It reports
// whether there is one to try.
func (l *loop) take(snapshots []manifests.Snapshot, sets []*manifests.Set) bool {
	changed := false
	for i, set := range sets {
		l.describe(snapshots[i])
		delete(l.held, set.Source)
		switch errs := l.findings[set.Source]; {
		case errs.HasErrors():
			n, _ := errs.Count()
			l.mark(set.Source, func(h *Head) {
				h.Result, h.Message = Failed, fmt.Sprintf("%d errors in the manifests; nothing of this revision was applied", n)
			})
		case l.isNew(set):
			l.trying[set.Source] = set
			changed = true
		default:
			l.mark(set.Source, func(h *Head) { h.Result, h.Seen, h.Message = Applied, "", "" })
		}
	}
	return changed
}
