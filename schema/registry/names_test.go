package registry_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/evenkeel/evenkeel/schema/registry"
)

// TestGeneratedTwice creates objects of which two get the same random name at
// first.
func TestGeneratedTwice(t *testing.T) {
	const batch = 40
	r := newRegistries(t)
	rand.Seed(seedWithTwins(batch))
	writes := make([]registry.Write, batch)
	for i := range writes {
		writes[i].Create = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", GenerateName: "twin-"}}
	}
	created, _, err := r.Commit(t.Context(), writes)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, obj := range created {
		names[obj.GetName()] = true
	}
	if len(names) != batch {
		t.Errorf("%d names of %d objects", len(names), batch)
	}
}

// seedWithTwins finds a seed after which one of the first n random names comes
// twice.
func seedWithTwins(n int) int64 {
	for seed := int64(1); ; seed++ {
		rand.Seed(seed)
		names := map[string]bool{}
		for range n {
			names[rand.String(5)] = true
		}
		if len(names) < n {
			return seed
		}
	}
}
