package storage

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/storage"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/apiserver/failure"
	"github.com/evenkeel/evenkeel/schema/apiserver/feed"
	"github.com/evenkeel/evenkeel/schema/apiserver/scheme"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// Get implements rest.Getter. Without a resourceVersion it is the store's word;
// with one, memory is asked first.
func (s *objects) Get(ctx context.Context, name string, opts *metav1.GetOptions) (runtime.Object, error) {
	key := s.key(ctx, name)
	if opts != nil && opts.ResourceVersion != "" {
		revision, err := feed.ParseRevision(opts.ResourceVersion)
		if err != nil {
			return nil, err
		}
		if obj, known := s.cfg.Hub.Object(s.kind, key, revision); known && obj != nil {
			return scheme.Shallow(obj), nil
		}
	}
	return s.get(ctx, key)
}

func (s *objects) get(ctx context.Context, key schema.Key) (schema.Object, error) {
	obj, err := s.cfg.Registries.Get(ctx, key)
	return obj, failure.Of(err, key)
}

// filter is what a request selects.
func filter(ctx context.Context, opts *metainternalversion.ListOptions) feed.Filter {
	f := feed.Filter{Namespace: request.NamespaceValue(ctx)}
	if opts != nil {
		f.Labels, f.Fields = opts.LabelSelector, opts.FieldSelector
	}
	if f.Fields != nil && f.Namespace == "" {
		f.Namespace, _ = f.Fields.RequiresExactMatch("metadata.namespace")
	}
	return f
}

// List implements rest.Lister. Memory answers all but old revisions, and pages
// of what does not fit in one.
func (s *objects) List(ctx context.Context, opts *metainternalversion.ListOptions) (runtime.Object, error) {
	if opts == nil {
		opts = &metainternalversion.ListOptions{}
	}
	f := filter(ctx, opts)
	revision, err := feed.ParseRevision(opts.ResourceVersion)
	switch {
	case err != nil:
		return nil, err
	case opts.Continue != "":
		return s.next(ctx, f, opts)
	case opts.ResourceVersionMatch == metav1.ResourceVersionMatchExact:
		return s.page(ctx, f, registry.Page{Limit: opts.Limit, Revision: revision}, 0)
	}
	objs, at, err := s.cfg.Hub.Objects(ctx, s.kind, f.Namespace, revision, opts.ResourceVersion == "")
	if err != nil {
		return nil, failure.Of(err, schema.Key{Resource: s.kind.Resource})
	}
	if opts.Limit > 0 && int64(len(objs)) > opts.Limit && opts.ResourceVersion != "0" {
		return s.page(ctx, f, registry.Page{Limit: opts.Limit}, revision)
	}
	return s.list(matching(f, objs), at), nil
}

func matching(f feed.Filter, objs []schema.Object) []schema.Object {
	if f.Everything() {
		return objs
	}
	var out []schema.Object
	for _, obj := range objs {
		if f.Matches(obj) {
			out = append(out, obj)
		}
	}
	return out
}

func (s *objects) list(objs []schema.Object, revision int64) runtime.Object {
	list := scheme.List(s.kind, objs)
	listMeta(list).SetResourceVersion(strconv.FormatInt(revision, 10))
	return list
}

func listMeta(list runtime.Object) metav1.ListInterface {
	m, err := meta.ListAccessor(list)
	if err != nil {
		panic(err) // every list of a kind has list metadata
	}
	return m
}

// next continues a list where a token says.
func (s *objects) next(ctx context.Context, f feed.Filter, opts *metainternalversion.ListOptions) (runtime.Object, error) {
	if opts.ResourceVersion != "" && opts.ResourceVersion != "0" {
		return nil, apierrors.NewBadRequest("specifying resource version is not allowed when using continue")
	}
	from, revision, err := storage.DecodeContinue(opts.Continue, s.kind.Prefix(f.Namespace))
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("invalid continue token: %v", err))
	}
	after, err := schema.ParsePath(strings.TrimSuffix(from, "\x00"))
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("invalid continue token: %v", err))
	}
	// -1 is the token of those whose own revision was gone: from there on, as
	// things are now.
	return s.page(ctx, f, registry.Page{Limit: opts.Limit, After: after, Revision: max(revision, 0)}, 0)
}

// page reads a page from the store: as many objects as are wanted of those
// that match.
func (s *objects) page(ctx context.Context, f feed.Filter, page registry.Page, notBefore int64) (runtime.Object, error) {
	limit := page.Limit
	var items []schema.Object
	for {
		if limit > 0 {
			page.Limit = limit - int64(len(items))
		}
		objs, revision, remaining, err := s.cfg.Registries.ListPage(ctx, s.kind, f.Namespace, page)
		switch {
		case errors.Is(err, registry.ErrCompacted) && page.After != (schema.Key{}):
			return nil, s.expired(f, page.After)
		case errors.Is(err, registry.ErrFuture):
			return nil, failure.FutureRevision(page.Revision, 0)
		case err != nil:
			return nil, failure.Of(err, schema.Key{Resource: s.kind.Resource})
		case revision < notBefore:
			return nil, failure.FutureRevision(notBefore, revision)
		}
		items = append(items, matching(f, objs)...)
		page.Revision = revision
		if len(objs) > 0 {
			page.After = schema.KeyOf(objs[len(objs)-1])
		}
		if remaining == 0 || limit > 0 && int64(len(items)) >= limit {
			return s.paged(f, items, page, remaining)
		}
	}
}

// paged is a page with what it takes to ask for the next.
func (s *objects) paged(f feed.Filter, items []schema.Object, page registry.Page, remaining int64) (runtime.Object, error) {
	list := s.list(items, page.Revision)
	if remaining == 0 {
		return list, nil
	}
	token, err := s.token(f, page.After, page.Revision)
	if err != nil {
		return nil, err
	}
	listMeta(list).SetContinue(token)
	if f.Everything() {
		listMeta(list).SetRemainingItemCount(&remaining)
	}
	return list, nil
}

func (s *objects) token(f feed.Filter, after schema.Key, revision int64) (string, error) {
	token, err := storage.EncodeContinue(after.Path()+"\x00", s.kind.Prefix(f.Namespace), revision)
	if err != nil {
		return "", fmt.Errorf("continue after %s: %w", after, err)
	}
	return token, nil
}

// expired is the error of a page whose revision is gone; with its token a
// client may go on as things are now.
func (s *objects) expired(f feed.Filter, after schema.Key) error {
	token, err := s.token(f, after, -1)
	if err != nil {
		return err
	}
	expired := apierrors.NewResourceExpired("The provided continue parameter is too old to display a consistent list result. " +
		"You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. " +
		"Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between " +
		"the time the first chunk was returned and now may show up in the list.")
	expired.ErrStatus.ListMeta.Continue = token
	return expired
}

// Watch implements rest.Watcher.
func (s *objects) Watch(ctx context.Context, opts *metainternalversion.ListOptions) (watch.Interface, error) {
	if opts == nil {
		opts = &metainternalversion.ListOptions{}
	}
	revision, err := feed.ParseRevision(opts.ResourceVersion)
	if err != nil {
		return nil, err
	}
	r := feed.Request{Kind: s.kind, Filter: filter(ctx, opts), Bookmarks: opts.AllowWatchBookmarks, Latest: opts.ResourceVersion == ""}
	switch initial := opts.SendInitialEvents; {
	case initial != nil && *initial:
		r.NotBefore, r.EndInitial = revision, opts.AllowWatchBookmarks
	case revision > 0:
		r.From = revision
	default:
		r.Silent = initial != nil
	}
	return s.cfg.Hub.Watch(ctx, r)
}
