package containerd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"syscall"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// Pull brings an image from its registry. A lease keeps what has arrived until
// the image is complete, and after an error that may pass until the next pull.
func (r *Runtime) Pull(ctx context.Context, ref string, options rt.PullOptions) (rt.Image, error) {
	ref, err := normalize(ref)
	if err != nil {
		return rt.Image{}, err
	}
	key := flightKey(ref, options.Credentials)
	t, leave := r.transfers.join(key, options.Progress)
	defer leave()
	return r.pulls.Do(r.scope(ctx), &r.work, key, func(ctx context.Context) (rt.Image, error) {
		return r.pullInTurn(ctx, ref, options.Credentials, t)
	})
}

// flightKey tells apart pulls that may end differently.
func flightKey(ref string, credentials []rt.Credential) string {
	key := ref
	for _, c := range credentials {
		key += "\n" + strings.Join(c.Keys, " ")
	}
	return key
}

// pullInTurn waits for one of the slots.
func (r *Runtime) pullInTurn(ctx context.Context, ref string, credentials []rt.Credential, t *transfer) (rt.Image, error) {
	t.queue(true)
	select {
	case r.pullSlots <- struct{}{}:
	case <-ctx.Done():
		return rt.Image{}, context.Cause(ctx)
	}
	defer func() { <-r.pullSlots }()
	t.queue(false)
	defer r.holdRef(ref)()
	ctx, release, err := r.leasePull(ctx, ref)
	if err != nil {
		return rt.Image{}, err
	}
	img, err := r.pullWithAny(ctx, ref, credentials, t)
	if err == nil {
		t.finish()
	}
	return img, errors.Join(err, release(err != nil && mayPass(err)))
}

// pullWithAny tries credentials until one is taken, or nobody's.
func (r *Runtime) pullWithAny(ctx context.Context, ref string, credentials []rt.Credential, t *transfer) (rt.Image, error) {
	if len(credentials) == 0 {
		return r.pull(ctx, ref, nil, t)
	}
	var errs []error
	for i := range credentials {
		img, err := r.pull(ctx, ref, &credentials[i], t)
		if err == nil || !refused(err) && !errdefs.IsNotFound(err) {
			return img, err
		}
		errs = append(errs, err)
	}
	return rt.Image{}, errors.Join(errs...)
}

func (r *Runtime) pull(ctx context.Context, ref string, credential *rt.Credential, t *transfer) (rt.Image, error) {
	before, err := r.client.ImageService().Get(ctx, ref)
	if err != nil && !gone(err) {
		return rt.Image{}, wrap("read image "+ref, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var transports transports
	defer transports.close()
	pulled, err := unpacking(func() (client.Image, error) {
		return r.client.Pull(ctx, ref,
			client.WithResolver(meteredResolver{r.resolver(ctx, credential, &transports), t, cancel}),
			client.WithImageHandlerWrapper(func(h images.Handler) images.Handler { return t.expect(r.client.ContentStore(), h) }),
			client.WithPullUnpack, client.WithPullSnapshotter(r.cfg.Snapshotter),
			client.WithPullLabels(accessLabels(credential)))
	})
	if err != nil {
		return rt.Image{}, r.pullError(ctx, ref, credential != nil, err)
	}
	record, err := r.keepAccess(ctx, before, pulled.Metadata())
	if err != nil {
		return rt.Image{}, err
	}
	img, err := r.readImage(ctx, record)
	if err != nil {
		return rt.Image{}, wrap("read image "+ref, err)
	}
	if err := r.ensureUnpacked(ctx, img); err != nil {
		return rt.Image{}, err
	}
	return img.public(), nil
}

// errStalled ends a pull of which nothing arrives any more.
var errStalled = fmt.Errorf("nothing arrived for %v", stallTime)

// pullError tells containerd's absence from the registry's refusal, and says
// what can be done: an unavailable registry is not an unavailable runtime.
func (r *Runtime) pullError(ctx context.Context, ref string, asSomebody bool, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errStalled) {
		err = cause
	} else if _, down := r.client.Version(ctx); down != nil && ctx.Err() == nil {
		return unavailable("pull "+ref, err)
	}
	kind, why := rt.ErrImagePull, ""
	switch {
	case noSpace(err):
		kind = fmt.Errorf("%w: %w", rt.ErrImagePull, rt.ErrNoSpace)
		why = "free space there, or let images be removed earlier; what had arrived is removed: "
	case refused(err) && asSomebody:
		why = "the registry does not take the credentials: check the pod's imagePullSecrets: "
	case refused(err):
		why = "the registry wants credentials: name a secret that has them in the pod's imagePullSecrets: "
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, context.DeadlineExceeded):
		why = "the registry does not answer: check the image's name and the node's way there: "
	case errdefs.IsNotFound(err):
		why = "the registry does not have it: check name and tag: "
	case brokenLayer(err):
		why = "a layer of it is broken: build and push the image again: "
	case wrongDigest(err):
		why = "what the registry sent is not what its manifest names, and is thrown away; push the image again: "
	case errors.Is(err, io.ErrUnexpectedEOF):
		why = "the registry broke off; the next try goes on from there: "
	}
	return fmt.Errorf("pull %s: %w: %s%w", ref, kind, why, err)
}

// noSpace reports whether containerd, whose errors come as text, ran out of
// disk.
func noSpace(err error) bool {
	text := err.Error()
	return strings.Contains(text, "no space left on device") || strings.Contains(text, "disk quota exceeded")
}

// refused reports whether a registry wants other credentials.
func refused(err error) bool {
	var status remoteerrors.ErrUnexpectedStatus
	if errors.As(err, &status) {
		return status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden
	}
	return errors.Is(err, docker.ErrInvalidAuthorization)
}

func wrongDigest(err error) bool {
	text := err.Error()
	return strings.Contains(text, "unexpected commit digest") || strings.Contains(text, "unexpected commit size")
}

func brokenLayer(err error) bool {
	return slices.ContainsFunc([]string{"failed to extract layer", "apply layer error"}, func(text string) bool {
		return strings.Contains(err.Error(), text)
	})
}

// mayPass reports whether what had arrived before an error is of use to the
// next try.
func mayPass(err error) bool {
	var status remoteerrors.ErrUnexpectedStatus
	if errors.As(err, &status) && status.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return false
	}
	return !brokenLayer(err) && !noSpace(err) && !wrongDigest(err) && !refused(err) && !errdefs.IsNotFound(err)
}
