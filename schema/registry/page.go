package registry

import (
	"context"

	"github.com/evenkeel/evenkeel/schema"
)

// Page is which part of a list is wanted.
type Page struct {
	Limit    int64      // at most so many objects; 0 for all
	After    schema.Key // only objects after this one, the last of the page before; the zero Key for the first page
	Revision int64      // as of this revision, that of the first page; 0 for now
}

// ListPage returns a page of the objects of a kind in one namespace, or in all
// for "", in the order of their keys in the store; the revision of which it is;
// and how many objects come after it. A revision that the store has forgotten
// is ErrCompacted, one that is not there yet ErrFuture.
//
// The statuses of pods and nodes are read key by key, many in a request: a
// page costs what it holds, and not what the cluster does.
func (r *Registries) ListPage(ctx context.Context, kind *schema.Kind, namespace string, page Page) (objs []schema.Object, revision, remaining int64, err error) {
	in := Range{Prefix: kind.Prefix(namespace), Limit: page.Limit, Revision: page.Revision}
	if page.After != (schema.Key{}) {
		in.From = page.After.Path() + "\x00"
	}
	kvs, revision, remaining, err := r.store.Page(ctx, in)
	if err != nil {
		return nil, 0, 0, err
	}
	own := make([]schema.Object, 0, len(kvs))
	for _, kv := range kvs {
		obj, err := decode(kv)
		if err != nil {
			return nil, 0, 0, err
		}
		own = append(own, obj)
	}
	objs, err = r.withStatuses(ctx, own, revision)
	return objs, revision, remaining, err
}

// withStatuses joins objects with what their agents said of them as of a
// revision.
func (r *Registries) withStatuses(ctx context.Context, objs []schema.Object, revision int64) ([]schema.Object, error) {
	var paths []string
	for _, obj := range objs {
		status, lease := statusPaths(obj)
		for _, path := range []string{status, lease} {
			if path != "" {
				paths = append(paths, path)
			}
		}
	}
	if len(paths) == 0 {
		return objs, nil
	}
	kvs, err := r.store.GetAll(ctx, paths, revision)
	if err != nil {
		return nil, err
	}
	found := make(map[string]KV, len(kvs))
	for _, kv := range kvs {
		found[kv.Key] = kv
	}
	for i, obj := range objs {
		if objs[i], err = joinFrom(found, obj); err != nil {
			return nil, err
		}
	}
	return objs, nil
}

func joinFrom(found map[string]KV, obj schema.Object) (schema.Object, error) {
	statusPath, leasePath := statusPaths(obj)
	var status schema.Object
	if kv, ok := found[statusPath]; ok {
		var err error
		if status, err = decode(kv); err != nil {
			return nil, err
		}
	}
	_, present := found[leasePath]
	return join(obj, status, present), nil
}
