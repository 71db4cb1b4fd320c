package containerd

import (
	"errors"
	"testing"

	"github.com/containerd/containerd/v2/core/images"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// TestImageHolds: whoever comes first, a start never takes an image that is
// being removed, nor a removal one that is being started or pulled.
func TestImageHolds(t *testing.T) {
	r := &Runtime{holds: newImageHolds()}
	remove := func(refs ...string) (func(), error) {
		var records []images.Image
		for _, ref := range refs {
			records = append(records, images.Image{Name: ref})
		}
		return r.beginRemoval("a", records)
	}
	before := r.removals()
	done, err := remove()
	if err != nil {
		t.Fatal(err)
	}
	if r.holdImage("a", before) {
		t.Error("started while it is being removed")
	}
	done()
	if r.holdImage("a", before) {
		t.Error("started though it was removed since it was read")
	}
	if !r.holdImage("a", r.removals()) {
		t.Fatal("never started again")
	}
	if _, err := remove(); !errors.Is(err, rt.ErrImageInUse) {
		t.Errorf("removed while it is being started: %v", err)
	}
	r.releaseImage("a")
	release := r.holdRef("lamp:1")
	if _, err := remove("lamp:2", "lamp:1"); !errors.Is(err, rt.ErrImageInUse) {
		t.Errorf("removed while it is being pulled: %v", err)
	}
	release()
	if _, err := remove("lamp:2", "lamp:1"); err != nil {
		t.Errorf("not removed though nobody holds it: %v", err)
	}
}
