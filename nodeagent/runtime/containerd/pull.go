package containerd

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// Pull brings an image from its registry; containerd holds a lease on what
// has arrived until the image is complete.
func (r *Runtime) Pull(ctx context.Context, ref string) (rt.Image, error) {
	ref, err := normalize(ref)
	if err != nil {
		return rt.Image{}, err
	}
	return r.pulls.Do(r.scope(ctx), &r.work, ref, func(ctx context.Context) (rt.Image, error) {
		return r.pull(ctx, ref)
	})
}

func (r *Runtime) pull(ctx context.Context, ref string) (rt.Image, error) {
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:   15 * time.Second,
		ResponseHeaderTimeout: time.Minute,
	}
	defer transport.CloseIdleConnections()
	pulled, err := r.client.Pull(ctx, ref,
		client.WithResolver(r.resolver(&http.Client{Transport: transport})),
		client.WithPullUnpack, client.WithPullSnapshotter(r.cfg.Snapshotter),
		client.WithPullLabel(pulledLabel, "true"))
	if err != nil {
		return rt.Image{}, r.pullError(ctx, ref, err)
	}
	img, err := r.readImage(ctx, pulled.Metadata())
	if err != nil {
		return rt.Image{}, wrap("read image "+ref, err)
	}
	if err := r.ensureUnpacked(ctx, img); err != nil {
		return rt.Image{}, err
	}
	return img.public(), nil
}

// pullError tells containerd's absence from the registry's refusal: an
// unavailable registry is not an unavailable runtime.
func (r *Runtime) pullError(ctx context.Context, ref string, err error) error {
	if _, down := r.client.Version(ctx); down != nil && ctx.Err() == nil {
		return unavailable("pull "+ref, err)
	}
	if errdefs.IsNotFound(err) {
		return fmt.Errorf("pull %s: %w: the registry does not have it: %w", ref, rt.ErrImagePull, err)
	}
	return fmt.Errorf("pull %s: %w: %w", ref, rt.ErrImagePull, err)
}

func (r *Runtime) resolver(httpClient *http.Client) remotes.Resolver {
	plain := func(host string) (bool, error) {
		if slices.Contains(r.cfg.PlainHTTP, host) {
			return true, nil
		}
		return docker.MatchLocalhost(host)
	}
	return docker.NewResolver(docker.ResolverOptions{Hosts: docker.ConfigureDefaultRegistries(
		docker.WithPlainHTTP(plain), docker.WithClient(httpClient),
		docker.WithAuthorizer(docker.NewDockerAuthorizer(docker.WithAuthClient(httpClient))))})
}

// Import loads an OCI layout in a tar, or what "docker save" writes, plain or
// with gzip.
func (r *Runtime) Import(ctx context.Context, path string) ([]string, error) {
	ctx = r.scope(ctx)
	archive, err := openArchive(path)
	if err != nil {
		return nil, err
	}
	defer archive.Close()
	records, err := r.client.Import(ctx, archive,
		client.WithImageRefTranslator(func(name string) string { return archiveReference(path, name) }))
	if err != nil {
		return nil, wrap("import "+path, err)
	}
	if len(records) == 0 {
		return nil, fmt.Errorf("import %s: no image in it has a name: tag it before saving, as in docker save NAME:TAG", path)
	}
	var refs []string
	for _, record := range records {
		img, err := r.readImage(ctx, record)
		if err != nil {
			return refs, wrap("import "+record.Name, err)
		}
		if err := r.ensureUnpacked(ctx, img); err != nil {
			return refs, err
		}
		refs = append(refs, record.Name)
	}
	return refs, nil
}

type archiveFile struct {
	io.Reader
	file *os.File
}

func (a archiveFile) Close() error { return a.file.Close() }

// openArchive opens a file, through gzip where its first bytes say so.
func openArchive(path string) (io.ReadCloser, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open image archive: %w", err)
	}
	buffered := bufio.NewReaderSize(file, 1<<16)
	magic, err := buffered.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		_ = file.Close()
		return nil, fmt.Errorf("read image archive %s: %w", path, err)
	}
	if len(magic) < 2 || magic[0] != 0x1f || magic[1] != 0x8b {
		return archiveFile{buffered, file}, nil
	}
	plain, err := gzip.NewReader(buffered)
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("read image archive %s: %w", path, err)
	}
	return archiveFile{plain, file}, nil
}
