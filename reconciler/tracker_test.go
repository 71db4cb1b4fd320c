package reconciler

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/validation"
)

// TestTrackerFollowsChanges makes random changes in sources and cluster, and
// wants the plans of a tracker that is told of them to be those that Diff makes
// of everything, although only a part of each is applied.
func TestTrackerFollowsChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &tracked{live: map[schema.Key]schema.Object{}, inventory: Inventory{}, files: []map[string]string{{}, {}}, loader: manifests.NewLoader()}
		w.tracker = NewTracker(validation.Rules{}, func(key schema.Key) schema.Object { return w.live[key] })
		for range rapid.IntRange(1, 20).Draw(t, "rounds") {
			w.changeFiles(t)
			w.changeLive(t)
			sets := w.load(t)
			w.tracker.Want(sets...)
			got, err := w.tracker.Plan(w.inventory)
			if err != nil {
				t.Fatal(err)
			}
			want, err := Diff(Input{
				Desired: NewDesired(sets...), Inventory: w.inventory, Live: func(key schema.Key) schema.Object { return w.live[key] },
				Read: map[string]bool{"one": true, "two": true}, Validator: validation.Rules{},
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(bytesOf(t, want), bytesOf(t, got)); diff != "" {
				t.Fatal(diff)
			}
			w.apply(got.Changes[:rapid.IntRange(0, len(got.Changes)).Draw(t, "applied")])
		}
	})
}

// tracked is a cluster without a store, and its sources.
type tracked struct {
	tracker   *Tracker
	loader    *manifests.Loader
	files     []map[string]string
	live      map[schema.Key]schema.Object
	inventory Inventory
	version   int
}

func (w *tracked) changeFiles(t *rapid.T) {
	for range rapid.IntRange(0, 3).Draw(t, "files") {
		name := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "name")
		value := rapid.SampledFrom([]string{"x", "yes", "z9"}).Draw(t, "value")
		path := rapid.SampledFrom([]string{"", "", "dir/"}).Draw(t, "dir") + name + ".yaml"
		for _, files := range w.files { // it may move, too
			delete(files, name+".yaml")
			delete(files, "dir/"+name+".yaml")
		}
		if rapid.IntRange(0, 3).Draw(t, "gone") == 0 {
			continue
		}
		text := configMap(name, value)
		if name > "b" {
			text = fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec: {containers: [{name: c, image: i, args: [%q]}]}\n", name, value)
		}
		w.files[rapid.IntRange(0, 1).Draw(t, "source")][path] = text
	}
}

// changeLive changes something behind git's back.
func (w *tracked) changeLive(t *rapid.T) {
	keys := slices.SortedFunc(maps.Keys(w.live), schema.Key.Compare)
	if len(keys) == 0 || rapid.Bool().Draw(t, "calm") {
		return
	}
	key := rapid.SampledFrom(keys).Draw(t, "object")
	obj := w.live[key].DeepCopyObject().(schema.Object)
	switch rapid.IntRange(0, 4).Draw(t, "drift") {
	case 0:
		obj = nil
	case 1:
		obj.SetUID("somebody's")
	case 2:
		obj.SetDeletionTimestamp(&metav1.Time{})
	case 3:
		obj.SetAnnotations(map[string]string{"by": "somebody"})
	case 4:
		obj.SetLabels(map[string]string{"l": "somebody"})
	}
	w.put(key, obj)
}

// put stores an object at a new version; nil deletes it.
func (w *tracked) put(key schema.Key, obj schema.Object) {
	w.tracker.Touch(key)
	if obj == nil {
		delete(w.live, key)
		return
	}
	w.version++
	obj.SetResourceVersion(strconv.Itoa(w.version))
	w.live[key] = obj
}

func (w *tracked) load(t *rapid.T) []*manifests.Set {
	var snaps []manifests.Snapshot
	for i, files := range w.files {
		src := &fakeSource{name: []string{"one", "two"}[i], files: files}
		snap, _ := src.Snapshot(context.Background())
		snap.Tree = ""
		slices.SortFunc(snap.Files, func(a, b manifests.File) int { return strings.Compare(a.Path, b.Path) })
		snaps = append(snaps, snap)
	}
	sets, found := w.loader.Load(context.Background(), snaps...)
	if err := found.Err(); err != nil {
		t.Fatal(err)
	}
	return sets
}

// apply does what Apply does.
func (w *tracked) apply(changes []Change) {
	for _, c := range changes {
		switch c.Action {
		case Create, Update, Resize:
			obj := c.Object.DeepCopyObject().(schema.Object)
			if c.Action == Create {
				obj.SetUID(types.UID(fmt.Sprint("uid-", w.version)))
			}
			w.put(c.Key, obj)
			c.Entry.UID = obj.GetUID()
			w.inventory[c.Key] = Owned{Source: c.Source, Entry: c.Entry}
		case Adopt:
			w.inventory[c.Key] = Owned{Source: c.Source, Entry: c.Entry}
		case Delete, Replace:
			w.put(c.Key, nil)
			fallthrough
		case Forget:
			if c.Action != Replace {
				delete(w.inventory, c.Key)
			}
		}
	}
}
