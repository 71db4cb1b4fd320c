package manifests

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/schema"
)

// contents are what a file of TestLoadFollowsChanges may hold: objects that
// collide with those of others, and faults.
var contents = []string{
	"",
	"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: one}\n",
	"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: two}\n",
	"# moved down\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: one}\n",
	"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n",
	"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n",
	"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: d}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: d}\n",
	"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: e}\ndate: {}\n",
	"apiVersion: v1\nkind: Namespace\nmetadata: {name: e}\n",
}

// TestLoadFollowsChanges loads random changes one after the other, and each
// time all of it anew, and wants the same; and that Changed names what the
// sets differ in.
func TestLoadFollowsChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		follower := NewLoader()
		files := []map[string]string{{}, {}}
		var before []*Set
		for round := range rapid.IntRange(2, 8).Draw(t, "rounds") {
			for range rapid.IntRange(0, 3).Draw(t, "changes") {
				path := rapid.SampledFrom([]string{"a.yaml", "b.yaml", "dir/a.yaml", "dir.yaml", "kustomization/z.yaml"}).Draw(t, "path")
				source := files[rapid.IntRange(0, len(files)-1).Draw(t, "source")]
				if content := rapid.SampledFrom(contents).Draw(t, "content"); content == "" {
					delete(source, path)
				} else {
					source[path] = content
				}
			}
			snaps := []Snapshot{snapshotOf("one", files[0], round), snapshotOf("two", files[1], round)}
			sets, found := follower.Load(context.Background(), snaps...)
			fresh, wanted := NewLoader().Load(context.Background(), snaps...)
			if diff := cmp.Diff(wanted, found); diff != "" {
				t.Fatalf("findings:\n%s", diff)
			}
			for i := range sets {
				if diff := cmp.Diff(described(fresh[i]), described(sets[i])); diff != "" {
					t.Fatalf("set %d:\n%s", i, diff)
				}
				if before != nil {
					compareChanged(t, before[i], sets[i])
				}
			}
			before = sets
		}
	})
}

// snapshotOf has files of which those below "kustomization" are rendered, each
// time from another line.
func snapshotOf(source string, files map[string]string, round int) Snapshot {
	s := Snapshot{Source: source}
	for path, content := range files {
		f := File{Path: path, Hash: content, Read: func() ([]byte, error) { return []byte(content), nil }}
		if strings.HasPrefix(path, "kustomization/") {
			f.Trace = func(line, column int) Place {
				return Place{File: "base.yaml", Line: line + round, Column: column, Document: 1}
			}
		}
		s.Files = append(s.Files, f)
	}
	slices.SortFunc(s.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return s
}

func described(s *Set) []string {
	var out []string
	for _, item := range s.Items {
		at, exact := item.Position("data[k]")
		out = append(out, fmt.Sprintln(item.Key, item.Title, item.Hash, item.Object.GetName(), item.Place.Source, item.Place, at, exact))
	}
	return out
}

// compareChanged wants every difference named, and nothing but what may be
// another: an item that is rendered.
func compareChanged(t *rapid.T, before, after *Set) {
	changed := map[schema.Key]bool{}
	for _, key := range Changed(before, after) {
		changed[key] = true
	}
	keys := map[schema.Key]bool{}
	for _, item := range slices.Concat(before.Items, after.Items) {
		keys[item.Key] = true
	}
	for key := range keys {
		a, had := before.Find(key)
		b, has := after.Find(key)
		same := had == has && a.Hash == b.Hash && a.Place == b.Place
		rendered := a.trace != nil || b.trace != nil
		if !same && !changed[key] || same && changed[key] && !rendered {
			t.Fatalf("%s: same %v, changed %v", key, same, changed[key])
		}
	}
}
