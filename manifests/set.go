package manifests

import (
	"fmt"
	"sort"

	"github.com/evenkeel/evenkeel/schema"
)

// Set is what one source declares.
type Set struct {
	Source   string // as in the Snapshot
	Location string
	Revision string
	Tree     string
	Commit   *Commit
	Items    []Item // sorted by key, each key once
}

// Item is one declared object. Items of the same content share their Object
// and Declared from one load to the next: whoever wants to change one copies
// it first.
type Item struct {
	Key schema.Key

	// Object is the object as Kubernetes would store it on creation:
	// defaulted, in its namespace, without what only a server sets.
	Object schema.Object

	// Declared is canonical JSON of exactly what the manifest says, without
	// defaults: the "last applied" of a three-way merge. Its keys are sorted,
	// nulls are left out, quantities and times are in their canonical form,
	// the namespace is always there, and a secret's stringData is in data.
	Declared []byte

	// Hash is of Declared: equal hashes declare the same.
	Hash string

	// Title names the object in findings: "Pod shop/web".
	Title string

	// Place is where the object begins.
	Place Position

	places *places
	trace  func(line, column int) Place // of a rendered file
}

// Find returns the item of a key, or false.
func (s *Set) Find(key schema.Key) (Item, bool) {
	i, ok := findItem(s.Items, key)
	if !ok {
		return Item{}, false
	}
	return s.Items[i], true
}

// findItem returns where in sorted items a key is, or would be.
func findItem(items []Item, key schema.Key) (int, bool) {
	return sort.Find(len(items), func(i int) int { return key.Compare(items[i].Key) })
}

// Changed returns the keys, sorted, of the items that only one of two sets has
// or that are not the same in both: declared otherwise or at another place.
// Either may be nil, for a set without items. It is quick where one set was
// loaded after the other.
func Changed(before, after *Set) []schema.Key {
	var a, b []Item
	if before != nil {
		a = before.Items
	}
	if after != nil {
		b = after.Items
	}
	if len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) {
		return nil
	}
	var out []schema.Key
	for len(a) > 0 || len(b) > 0 {
		c := 0
		switch {
		case len(a) == 0:
			c = 1
		case len(b) == 0:
			c = -1
		default:
			c = a[0].Key.Compare(b[0].Key)
		}
		switch {
		case c < 0:
			out, a = append(out, a[0].Key), a[1:]
		case c > 0:
			out, b = append(out, b[0].Key), b[1:]
		default:
			if !a[0].same(&b[0]) {
				out = append(out, a[0].Key)
			}
			a, b = a[1:], b[1:]
		}
	}
	return out
}

// same reports whether two items of a key are the same object at the same
// place. What is rendered may be so from other places.
func (i *Item) same(o *Item) bool {
	return i.Object == o.Object && i.Hash == o.Hash && i.Place == o.Place && i.places == o.places && i.trace == nil && o.trace == nil
}

// Position returns where the manifest sets a field, such as
// "spec.containers[0].image" or "metadata.labels[app]". Where the manifest
// does not set it, it returns the nearest field above it that it does set,
// and false.
func (i Item) Position(fieldPath string) (Position, bool) {
	p := i.Place
	at, exact := i.places.find(fieldPath)
	p.Line, p.Column = at.line, at.column
	if i.trace == nil {
		return p, exact
	}
	p = i.trace(p.Line, p.Column).in(p.Source)
	return p, exact && p.Line > 0
}

// Position is a place in a file. Lines, columns and documents count from 1,
// columns in characters; 0 means that it is not known or does not apply.
type Position struct {
	Source   string
	File     string
	Line     int
	Column   int
	Document int
}

// String gives the position as editors and compilers do: "file:line:column".
func (p Position) String() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.Column == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}
