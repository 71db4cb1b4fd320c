package containerd

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// image is what an image record points at. It never changes: it is kept by
// the digest of what it was read from.
type image struct {
	record   images.Image
	id       digest.Digest // of the config
	chain    string        // name of the image's topmost snapshot
	size     int64
	config   ocispec.ImageConfig
	accounts *accountsOnce
}

// imageCache keeps images by the digest they are read from; the zero value is
// ready.
type imageCache struct {
	mu       sync.Mutex
	byTarget map[digest.Digest]image
	unpacked map[string]bool // chains whose snapshot has been seen
}

func (c *imageCache) get(target digest.Digest) (image, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	img, ok := c.byTarget[target]
	return img, ok
}

// put keeps the first of two readers' images, so that both share its accounts.
func (c *imageCache) put(target digest.Digest, img image) image {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byTarget == nil {
		c.byTarget = map[digest.Digest]image{}
	}
	if first, ok := c.byTarget[target]; ok {
		return first
	}
	c.byTarget[target] = img
	return img
}

func (c *imageCache) isUnpacked(chain string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unpacked[chain]
}

func (c *imageCache) setUnpacked(chain string, is bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unpacked == nil {
		c.unpacked = map[string]bool{}
	}
	c.unpacked[chain] = is
}

// forget is for an image that was removed.
func (c *imageCache) forget(target digest.Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.unpacked, c.byTarget[target].chain)
	delete(c.byTarget, target)
}

func (c *imageCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byTarget, c.unpacked = nil, nil
}

// Image returns a local image, and unpacks it if its snapshot has gone.
func (r *Runtime) Image(ctx context.Context, ref string) (rt.Image, error) {
	ctx = r.scope(ctx)
	img, err := r.localImage(ctx, ref)
	if err != nil {
		return rt.Image{}, err
	}
	if err := r.ensureUnpacked(ctx, img); err != nil {
		return rt.Image{}, err
	}
	return img.public(), nil
}

// localImage reads an image's record and, the first time, its manifest and
// config.
func (r *Runtime) localImage(ctx context.Context, ref string) (image, error) {
	ref, err := normalize(ref)
	if err != nil {
		return image{}, err
	}
	record, err := r.client.ImageService().Get(ctx, ref)
	if gone(err) {
		return image{}, fmt.Errorf("image %s: %w", ref, rt.ErrImageNotFound)
	}
	if err != nil {
		return image{}, wrap("read image "+ref, err)
	}
	img, err := r.readImage(ctx, record)
	if gone(err) {
		return image{}, fmt.Errorf("image %s: %w: a part of it is missing: %w", ref, rt.ErrImageNotFound, err)
	}
	if err != nil {
		return image{}, wrap("read image "+ref, err)
	}
	return img, nil
}

func (r *Runtime) readImage(ctx context.Context, record images.Image) (image, error) {
	img, ok := r.images.get(record.Target.Digest)
	if !ok {
		var err error
		if img, err = r.readContent(ctx, record.Target); err != nil {
			return image{}, err
		}
		img = r.images.put(record.Target.Digest, img)
	}
	img.record = record
	return img, nil
}

func (r *Runtime) readContent(ctx context.Context, target ocispec.Descriptor) (image, error) {
	store := r.client.ContentStore()
	manifest, err := images.Manifest(ctx, store, target, platforms.Default())
	if err != nil {
		return image{}, err
	}
	blob, err := content.ReadBlob(ctx, store, manifest.Config)
	if err != nil {
		return image{}, err
	}
	var config ocispec.Image
	if err := json.Unmarshal(blob, &config); err != nil {
		return image{}, fmt.Errorf("decode image config %s: %w", manifest.Config.Digest, err)
	}
	size := manifest.Config.Size
	for _, layer := range manifest.Layers {
		size += layer.Size
	}
	return image{
		id: manifest.Config.Digest, chain: identity.ChainID(config.RootFS.DiffIDs).String(),
		size: size, config: config.Config, accounts: &accountsOnce{},
	}, nil
}

// ensureUnpacked makes the image's snapshots where one is missing.
func (r *Runtime) ensureUnpacked(ctx context.Context, img image) error {
	if r.images.isUnpacked(img.chain) {
		return nil
	}
	_, err := r.client.SnapshotService(r.cfg.Snapshotter).Stat(ctx, img.chain)
	if err == nil {
		r.images.setUnpacked(img.chain, true)
		return nil
	}
	if !gone(err) {
		return wrap("look at the snapshot of "+img.record.Name, err)
	}
	return r.unpackImage(ctx, img)
}

func (r *Runtime) unpackImage(ctx context.Context, img image) error {
	_, err := r.unpack.Do(ctx, &r.work, img.chain, func(ctx context.Context) (struct{}, error) {
		return unpacking(func() (struct{}, error) {
			return struct{}{}, client.NewImage(r.client, img.record).Unpack(ctx, r.cfg.Snapshotter)
		})
	})
	if gone(err) {
		return fmt.Errorf("unpack image %s: %w: a layer is missing: %w", img.record.Name, rt.ErrImageNotFound, err)
	}
	if err != nil {
		return wrap("unpack image "+img.record.Name, err)
	}
	r.images.setUnpacked(img.chain, true)
	return nil
}

// unpackTries is how often an image is unpacked that loses a layer below.
const unpackTries = 5

// unpacking does what unpacks an image, and again where a layer was gone when
// the next was to be built upon it: another image had it unpacked, and it was
// collected with that one between the look and the use. What a try builds itself
// is under its lease.
func unpacking[T any](do func() (T, error)) (result T, err error) {
	for range unpackTries {
		if result, err = do(); !lostParent(err) {
			return result, err
		}
	}
	return result, err
}

// lostParent: containerd's errors come as text.
func lostParent(err error) bool {
	return gone(err) && strings.Contains(err.Error(), "failed to prepare extraction snapshot")
}

func (i image) public() rt.Image {
	public := rt.Image{
		Ref: i.record.Name, ID: i.id.String(), Size: i.size,
		Entrypoint: i.config.Entrypoint, Cmd: i.config.Cmd, Env: i.config.Env,
		WorkingDir: i.config.WorkingDir, User: i.config.User, StopSignal: rt.Signal(i.config.StopSignal), Access: accessOf(i.record.Labels),
	}
	if i.record.Labels[pulledLabel] != "" {
		public.Digest = repository(i.record.Name) + "@" + i.record.Target.Digest.String()
	}
	return public
}
