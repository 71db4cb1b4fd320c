package feed

import (
	"strconv"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/apiserver/scheme"
)

// event is one change of an object, for all watchers. Its objects are shared.
type event struct {
	revision      int64
	time          time.Time
	before, after schema.Object // nil for one that came, or went
	now           *object       // after, with its encodings
	last          func() *object
	fieldsBefore  func() fields.Set
	fieldsAfter   func() fields.Set
}

func newEvent(before, after schema.Object, revision int64) *event {
	e := &event{revision: revision, time: time.Now(), before: before, after: after}
	if after != nil {
		e.now = newObject(after)
		e.fieldsAfter = sync.OnceValue(func() fields.Set { return scheme.Fields(after) })
	}
	if before != nil {
		e.last = sync.OnceValue(func() *object { return newObject(at(before, revision)) })
		e.fieldsBefore = sync.OnceValue(func() fields.Set { return scheme.Fields(before) })
	}
	return e
}

// at returns an object as its deletion shows it: the last state, with the
// revision of its end.
func at(obj schema.Object, revision int64) schema.Object {
	last := scheme.Shallow(obj)
	last.SetResourceVersion(strconv.FormatInt(revision, 10))
	return last
}

// Filter says which objects a watcher or a list wants. Nil selectors want all.
type Filter struct {
	Namespace string // "" for all
	Labels    labels.Selector
	Fields    fields.Selector
}

// Matches reports whether an object is wanted.
func (f Filter) Matches(obj schema.Object) bool {
	return f.matches(obj, func() fields.Set { return scheme.Fields(obj) })
}

func (f Filter) matches(obj schema.Object, set func() fields.Set) bool {
	if f.Namespace != "" && obj.GetNamespace() != f.Namespace {
		return false
	}
	if f.Labels != nil && !f.Labels.Empty() && !f.Labels.Matches(labels.Set(obj.GetLabels())) {
		return false
	}
	if f.Fields == nil || f.Fields.Empty() {
		return true
	}
	if name, exact := f.Fields.RequiresExactMatch("metadata.name"); exact && name != obj.GetName() {
		return false
	}
	return f.Fields.Matches(set())
}

// Everything reports whether no object is left out but by its namespace.
func (f Filter) Everything() bool {
	return (f.Labels == nil || f.Labels.Empty()) && (f.Fields == nil || f.Fields.Empty())
}

// seen is the event as a watcher with a filter sees it: an object that begins
// or ceases to match comes or goes.
func (e *event) seen(f Filter) (watch.Event, bool) {
	was := e.before != nil && f.matches(e.before, e.fieldsBefore)
	is := e.after != nil && f.matches(e.after, e.fieldsAfter)
	switch {
	case is && was:
		return watch.Event{Type: watch.Modified, Object: e.now}, true
	case is:
		return watch.Event{Type: watch.Added, Object: e.now}, true
	case was:
		return watch.Event{Type: watch.Deleted, Object: e.last()}, true
	}
	return watch.Event{}, false
}
