package containerd

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// Images lists the images by what they are, not by what they are called. One
// whose content is damaged goes by the digest of its manifest.
func (r *Runtime) Images(ctx context.Context) ([]rt.StoredImage, error) {
	ctx = r.scope(ctx)
	records, err := r.client.ImageService().List(ctx)
	if err != nil {
		return nil, wrap("list images", err)
	}
	byID := map[string]*rt.StoredImage{}
	var out []*rt.StoredImage
	for _, record := range records {
		id, size := r.identityOf(ctx, record)
		if byID[id] == nil {
			byID[id] = &rt.StoredImage{ID: id, Size: size}
			out = append(out, byID[id])
		}
		byID[id].Refs = append(byID[id].Refs, record.Name)
		byID[id].Pinned = byID[id].Pinned || record.Labels[pulledLabel] == ""
	}
	slices.SortFunc(out, func(a, b *rt.StoredImage) int { return strings.Compare(a.ID, b.ID) })
	list := make([]rt.StoredImage, 0, len(out))
	for _, img := range out {
		slices.Sort(img.Refs)
		list = append(list, *img)
	}
	return list, nil
}

func (r *Runtime) identityOf(ctx context.Context, record images.Image) (id string, size int64) {
	img, err := r.readImage(ctx, record)
	if err != nil {
		return record.Target.Digest.String(), 0
	}
	return img.id.String(), img.size
}

// RemoveImage removes an image's records. Containers that were made from it
// keep their root file systems; Collect frees the rest.
func (r *Runtime) RemoveImage(ctx context.Context, id string) error {
	ctx = r.scope(ctx)
	records, err := r.client.ImageService().List(ctx)
	if err != nil {
		return wrap("list images", err)
	}
	records = slices.DeleteFunc(records, func(record images.Image) bool {
		is, _ := r.identityOf(ctx, record)
		return is != id
	})
	done, err := r.beginRemoval(id, records)
	if err != nil {
		return err
	}
	defer done()
	for _, record := range records {
		if err := r.client.ImageService().Delete(ctx, record.Name); err != nil && !gone(err) {
			return wrap("remove image "+record.Name, err)
		}
		r.images.forget(record.Target.Digest)
	}
	return nil
}

// Collect makes containerd collect garbage.
func (r *Runtime) Collect(ctx context.Context) error {
	ctx = r.scope(ctx)
	if err := r.dropPullLeases(ctx); err != nil {
		return err
	}
	return wrap("collect garbage", r.collect(ctx))
}

// collect makes containerd collect garbage now: the synchronous deletion of a
// lease is the call that does so.
func (r *Runtime) collect(ctx context.Context) error {
	manager := r.client.LeasesService()
	lease, err := manager.Create(ctx, leases.WithRandomID(), leases.WithExpiration(time.Minute))
	if err != nil {
		return err
	}
	return manager.Delete(ctx, lease, leases.SynchronousDelete)
}

// imageHolds keep images that are being started from being removed. The agent
// that starts containers is the one that removes images, so that this need not
// outlive it.
type imageHolds struct {
	starts   map[string]int  // by image ID
	refs     map[string]int  // references being pulled
	leases   map[string]int  // of those pulls
	removing map[string]bool // by image ID
	removals int             // how many there were
}

func newImageHolds() imageHolds {
	return imageHolds{starts: map[string]int{}, refs: map[string]int{}, leases: map[string]int{}, removing: map[string]bool{}}
}

// heldImage reads a local image and keeps it until release is called.
func (r *Runtime) heldImage(ctx context.Context, ref string) (img image, release func(), err error) {
	for {
		before := r.removals()
		img, err := r.localImage(ctx, ref)
		if err != nil {
			return image{}, nil, err
		}
		if r.holdImage(img.id.String(), before) {
			return img, func() { r.releaseImage(img.id.String()) }, nil
		}
	}
}

func (r *Runtime) removals() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.holds.removals
}

// holdImage fails if images were removed since the image was read: this may
// be one of them.
func (r *Runtime) holdImage(id string, before int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.holds.removals != before || r.holds.removing[id] {
		return false
	}
	r.holds.starts[id]++
	return true
}

func (r *Runtime) releaseImage(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	countDown(r.holds.starts, id)
}

// holdRef keeps a reference that is being pulled.
func (r *Runtime) holdRef(ref string) (release func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.holds.refs[ref]++
	r.holds.leases[pullLease(ref)]++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		countDown(r.holds.refs, ref)
		countDown(r.holds.leases, pullLease(ref))
	}
}

func (r *Runtime) isPulling(lease string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.holds.leases[lease] > 0
}

func countDown(counts map[string]int, key string) {
	if counts[key]--; counts[key] == 0 {
		delete(counts, key)
	}
}

// beginRemoval lets no start take an image that nobody holds until done is
// called.
func (r *Runtime) beginRemoval(id string, records []images.Image) (done func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	held := r.holds.starts[id] > 0 || slices.ContainsFunc(records, func(i images.Image) bool { return r.holds.refs[i.Name] > 0 })
	if held {
		return nil, fmt.Errorf("remove image %s: %w", id, rt.ErrImageInUse)
	}
	r.holds.removing[id] = true
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.holds.removing, id)
		r.holds.removals++
	}, nil
}
