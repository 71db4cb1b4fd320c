package registry

import (
	"slices"

	"github.com/evenkeel/evenkeel/schema"
)

// ObjectChange is one change of an object in a Mirror. Before is nil for one
// that came, After for one that went. Both are shared and must not be changed.
type ObjectChange struct {
	Key           schema.Key
	Before, After schema.Object
	Revision      int64 // at which it changed
}

// Changes is what a Mirror took in at once, in the order of revisions.
type Changes struct {
	Objects  []ObjectChange
	Revision int64 // up to which the mirror now is
	// Relisted says that the mirror listed the store anew: what changed since
	// the last revision is not known one by one, and Objects is empty.
	Relisted bool
}

type observer struct{ tell func(Changes) }

// Observe has tell called with everything that the mirror takes in after a
// revision, which is the mirror's now, in order. tell runs while the mirror is
// locked: it is quick, and does not call the mirror. stop ends it.
func (m *Mirror) Observe(tell func(Changes)) (revision int64, stop func()) {
	o := &observer{tell}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.observers = append(m.observers, o)
	return m.revisionLocked(), func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.observers = slices.DeleteFunc(m.observers, func(have *observer) bool { return have == o })
	}
}

func (m *Mirror) tellLocked(c Changes) {
	for _, o := range m.observers {
		o.tell(c)
	}
}

// ListAt is List with the revision of the mirror at that moment.
func (m *Mirror) ListAt(kind *schema.Kind, namespace string) ([]schema.Object, int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.list(kind, namespace), m.revisionLocked()
}
