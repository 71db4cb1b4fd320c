package manifests

import (
	"slices"

	"github.com/evenkeel/evenkeel/schema"
)

// assembleLocked puts sets together from what is parsed: from the sets of the
// load before, where only some files are others, or else from nothing.
func (l *Loader) assembleLocked(snaps []Snapshot, now []holding, failed []unread) ([]*Set, Diagnostics) {
	for n := range now {
		now[n].complete(l.files)
	}
	before := l.held
	l.held = nil
	if len(failed) > 0 {
		sets, found, _ := assembleAll(snaps, now, failed)
		return sets, found
	}
	if before != nil {
		if sets, ok := update(l.sets, before, snaps, now); ok {
			l.held = now
			return sets, findings(snaps, now)
		}
	}
	sets, found, clean := assembleAll(snaps, now, nil)
	if clean {
		l.held = now
	}
	return sets, found
}

// assembleAll makes all sets from nothing. They are clean if no object is
// declared twice.
func assembleAll(snaps []Snapshot, now []holding, failed []unread) (sets []*Set, found Diagnostics, clean bool) {
	found = findings(snaps, now)
	for _, f := range failed {
		found = append(found, Diagnostic{Code: codeUnreadable, Position: Position{Source: f.source, File: f.path}, Message: "cannot read the file: " + f.err.Error()})
	}
	total := 0
	for _, s := range snaps {
		total += len(s.Files)
	}
	first := make(map[schema.Key]Position, total)
	sets = make([]*Set, len(snaps))
	clean = true
	for i, s := range snaps {
		set := newSet(s)
		for j := range s.Files {
			f := &s.Files[j]
			known := now[i].files[j].parsed
			if known == nil {
				continue // unread
			}
			twice := set.add(known.objects, f, first, len(snaps) > 1)
			found, clean = append(found, twice...), clean && len(twice) == 0
		}
		slices.SortFunc(set.Items, func(a, b Item) int { return a.Key.Compare(b.Key) })
		sets[i] = set
	}
	found.sort()
	return sets, found, clean
}

func newSet(s Snapshot) *Set {
	return &Set{Source: s.Source, Location: s.Location, Revision: s.Revision, Tree: s.Tree, Commit: s.Commit}
}

// findings are all there is to say of each file by itself, sorted.
func findings(snaps []Snapshot, now []holding) Diagnostics {
	var found Diagnostics
	for i, s := range snaps {
		found = append(found, s.Findings...)
		for j, f := range now[i].files {
			if f.parsed != nil && len(f.parsed.findings) > 0 {
				found = append(found, f.parsed.at(s.Source, &s.Files[j])...)
			}
		}
	}
	found.sort()
	return found
}

// at gives a content's findings their file.
func (f *parsedFile) at(source string, file *File) []Diagnostic {
	out := make([]Diagnostic, 0, len(f.findings))
	for _, d := range f.findings {
		d.Position.Source, d.Position.File = source, file.Path
		out = append(out, file.traced(d))
	}
	return out
}

// add takes the objects of a file into the set, except those already declared
// elsewhere.
func (s *Set) add(objects []*parsed, file *File, first map[schema.Key]Position, many bool) []Diagnostic {
	var found []Diagnostic
	for _, o := range objects {
		at := o.at(s.Source, file)
		if before, ok := first[o.key]; ok {
			place, message := before.String(), o.key.String()+" is declared twice"
			if file.Trace != nil {
				place = before.File // the same line may be rendered twice
			}
			if many {
				place = before.Source + ": " + place
				message += ", " + declaring(before.Source, s.Source)
			}
			found = append(found, file.traced(Diagnostic{
				Code: codeDeclaredTwice, Position: at, Object: o.name,
				Message: message, Suggestion: "first declared at " + place,
			}))
			continue
		}
		first[o.key] = at
		s.Items = append(s.Items, o.item(at, file))
	}
	return found
}

// at is where an object begins in a file that holds it.
func (o *parsed) at(source string, file *File) Position {
	begin := o.places.all[0]
	return Position{Source: source, File: file.Path, Line: int(begin.line), Column: int(begin.column), Document: o.document}
}

// item is the object as a file declares it that it begins in at a place.
func (o *parsed) item(at Position, file *File) Item {
	return Item{Key: o.key, Title: o.name, Object: o.object, Declared: o.declared, Hash: o.hash, Place: file.where(at), places: o.places, trace: file.Trace}
}

// declaring names the sources of two declarations, since a position does not
// show its source.
func declaring(first, again string) string {
	if first == again {
		return "both in source " + again
	}
	return "in source " + first + " and again in source " + again
}
