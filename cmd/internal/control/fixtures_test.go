package control

import (
	"log/slog"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/reconciler"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/registry/memory"
	"github.com/evenkeel/evenkeel/schema/validation"
)

// TestFixturesAppliedAreNoChange applies what testdata declares and plans it
// again.
func TestFixturesAppliedAreNoChange(t *testing.T) {
	for _, name := range []string{"guestbook", "valid"} {
		t.Run(name, func(t *testing.T) {
			sources, err := (&Flags{}).Sources([]string{filepath.Join("../../../testdata", name)}, t.TempDir(), slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			snapshot, err := sources[0].Snapshot(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range snapshot.Files { // some of them declare the same object
				snapshot.Files, snapshot.Tree = []manifests.File{file}, file.Hash
				t.Run(file.Path, func(t *testing.T) { applyAndPlan(t, snapshot) })
			}
		})
	}
}

func applyAndPlan(t *testing.T, snapshot manifests.Snapshot) {
	sets, findings := manifests.NewLoader().Load(t.Context(), snapshot)
	if err := findings.Err(); err != nil {
		t.Fatal(err)
	}
	store := memory.New()
	regs := registry.New(store, registry.Config{Validator: validation.Rules{}})
	made := map[string]bool{"": true}
	for _, item := range sets[0].Items {
		made[item.Key.Name] = made[item.Key.Name] || item.Key.Resource == "namespaces"
	}
	for _, item := range sets[0].Items {
		if !made[item.Key.Namespace] {
			made[item.Key.Namespace] = true
			if _, err := regs.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: item.Key.Namespace}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	plan, err := live(t, store).Plan(validation.Rules{}, sets...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reconciler.Apply(t.Context(), regs, plan); err != nil {
		t.Fatal(err)
	}
	again, err := live(t, store).Plan(validation.Rules{}, sets...)
	if err != nil {
		t.Fatal(err)
	}
	if !again.Empty() || again.Unchanged != len(sets[0].Items) {
		text, _ := again.MarshalJSON()
		t.Errorf("%s", text)
	}
}
