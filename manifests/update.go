package manifests

import (
	"slices"
	"strings"

	"github.com/evenkeel/evenkeel/schema"
)

// holding is what a source's files held at one load, file by file in the order
// of the snapshot.
type holding struct {
	source string
	files  []heldFile
}

// heldFile is a file without its content.
type heldFile struct {
	path, hash string
	rendered   bool
	parsed     *parsedFile // nil as long as it is not known
}

// complete takes over what has been parsed meanwhile.
func (h *holding) complete(files map[string]*parsedFile) {
	for i := range h.files {
		if f := &h.files[i]; f.parsed == nil {
			f.parsed = files[f.hash]
		}
	}
}

// matchLocked lists the files of snapshots, with what is known of those that
// were there at the last load as they are now.
func (l *Loader) matchLocked(snaps []Snapshot) []holding {
	out := make([]holding, len(snaps))
	for n, s := range snaps {
		out[n] = holding{source: s.Source, files: make([]heldFile, len(s.Files))}
		for i := range s.Files {
			f := &s.Files[i]
			out[n].files[i] = heldFile{path: f.Path, hash: f.Hash, rendered: f.Trace != nil}
		}
		if n >= len(l.held) || l.held[n].source != s.Source {
			continue
		}
		compareFiles(l.held[n].files, out[n].files, func(before, now *heldFile) {
			if before != nil && now != nil && before.hash == now.hash {
				now.parsed = before.parsed
			}
		})
	}
	return out
}

// compareFiles pairs two lists of files, both sorted by path, and calls visit
// with every pair; one of it is nil where only the other list has the path.
func compareFiles(before, now []heldFile, visit func(before, now *heldFile)) {
	i, j := 0, 0
	for i < len(before) || j < len(now) {
		c := 0
		switch {
		case i == len(before):
			c = 1
		case j == len(now):
			c = -1
		default:
			c = strings.Compare(before[i].path, now[j].path)
		}
		switch {
		case c < 0:
			visit(&before[i], nil)
			i++
		case c > 0:
			visit(nil, &now[j])
			j++
		default:
			visit(&before[i], &now[j])
			i, j = i+1, j+1
		}
	}
}

// same reports whether a file gives the items that it gave. What is rendered
// may be so from other places.
func (f *heldFile) same(now *heldFile) bool {
	return f.hash == now.hash && !f.rendered && !now.rendered
}

// delta is what files that are others now take out of a set and bring into it.
type delta struct {
	gone  []schema.Key // sorted
	items []Item       // sorted by key
}

// update brings sets up to date with what the files now hold. It does not
// where the sources are others, or where an object is declared twice: of that
// there is more to say than a set does.
func update(sets []*Set, before []holding, snaps []Snapshot, now []holding) ([]*Set, bool) {
	if len(before) != len(now) {
		return nil, false
	}
	deltas := make([]delta, len(now))
	for n := range now {
		if before[n].source != now[n].source {
			return nil, false
		}
		deltas[n] = deltaOf(before[n].files, now[n].files, &snaps[n])
	}
	for n := range deltas {
		if deltas[n].clashes(n, sets, deltas) {
			return nil, false
		}
	}
	out := make([]*Set, len(sets))
	for n, set := range sets {
		out[n] = newSet(snaps[n])
		out[n].Items = deltas[n].apply(set.Items)
	}
	return out, true
}

// deltaOf compares the files that a source had and has.
func deltaOf(before, now []heldFile, snap *Snapshot) delta {
	var d delta
	at := 0 // of the next file in the snapshot
	compareFiles(before, now, func(old, file *heldFile) {
		if file != nil {
			at++
		}
		if old != nil && file != nil && old.same(file) {
			return
		}
		if old != nil {
			for _, o := range old.parsed.objects {
				d.gone = append(d.gone, o.key)
			}
		}
		if file != nil {
			f := &snap.Files[at-1]
			for _, o := range file.parsed.objects {
				d.items = append(d.items, o.item(o.at(snap.Source, f), f))
			}
		}
	})
	slices.SortFunc(d.gone, schema.Key.Compare)
	slices.SortFunc(d.items, func(a, b Item) int { return a.Key.Compare(b.Key) })
	return d
}

// clashes reports whether what a delta brings into the n-th set is declared
// elsewhere too.
func (d *delta) clashes(n int, sets []*Set, deltas []delta) bool {
	for i := range d.items {
		key := d.items[i].Key
		if i > 0 && d.items[i-1].Key == key {
			return true
		}
		for m, set := range sets {
			if _, taken := set.Find(key); taken && !deltas[m].drops(key) || m < n && deltas[m].brings(key) {
				return true
			}
		}
	}
	return false
}

func (d *delta) drops(key schema.Key) bool {
	_, found := slices.BinarySearchFunc(d.gone, key, schema.Key.Compare)
	return found
}

func (d *delta) brings(key schema.Key) bool {
	_, found := findItem(d.items, key)
	return found
}

// apply returns the items with the delta; it does not change those given.
func (d *delta) apply(items []Item) []Item {
	if len(d.gone) == 0 && len(d.items) == 0 {
		return items
	}
	out := make([]Item, 0, max(len(items)-len(d.gone)+len(d.items), 0))
	gone, come := d.gone, d.items
	for len(gone) > 0 || len(come) > 0 {
		var at int
		var found bool
		if len(gone) > 0 && (len(come) == 0 || gone[0].Compare(come[0].Key) <= 0) {
			at, found = findItem(items, gone[0])
			gone = gone[1:]
			out = append(out, items[:at]...)
			if found {
				at++
			}
		} else {
			at, _ = findItem(items, come[0].Key)
			out = append(append(out, items[:at]...), come[0])
			come = come[1:]
		}
		items = items[at:]
	}
	return append(out, items...)
}
