package storage

import (
	"context"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	kschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/warning"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/apiserver/failure"
	"github.com/evenkeel/evenkeel/schema/apiserver/feed"
	"github.com/evenkeel/evenkeel/schema/apiserver/scheme"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// Config is what all storage has in common.
type Config struct {
	Registries *registry.Registries
	Hub        *feed.Hub
	Tables     func(*schema.Kind) rest.TableConvertor

	// Owned returns, for a write that changes old into new, a sentence for each
	// thing that a source in git owns and will put back; nil objects are those
	// that are not there before or after. Default: nothing is owned.
	Owned func(old, new schema.Object) []string
	// DenyOwned refuses such writes; otherwise they are warned of.
	DenyOwned bool
}

// objects is the storage of one kind: get, list, watch, create, update, patch
// and delete.
type objects struct {
	rest.TableConvertor
	cfg  *Config
	kind *schema.Kind
}

var (
	_ rest.StandardStorage      = collection{}
	_ rest.ShortNamesProvider   = &objects{}
	_ rest.CategoriesProvider   = &objects{}
	_ rest.ResetFieldsStrategy  = &objects{}
	_ rest.SingularNameProvider = &objects{}
)

// New returns the storage of a kind.
func New(cfg *Config, kind *schema.Kind) rest.Storage {
	o := newObjects(cfg, kind)
	switch kind {
	case schema.Namespaces: // as in Kubernetes, one at a time
		return o
	case schema.Leases:
		return leases{collection{o}}
	}
	return collection{o}
}

func newObjects(cfg *Config, kind *schema.Kind) *objects {
	return &objects{TableConvertor: cfg.Tables(kind), cfg: cfg, kind: kind}
}

// New implements rest.Storage.
func (s *objects) New() runtime.Object { return s.kind.New() }

// NewList implements rest.Lister.
func (s *objects) NewList() runtime.Object { return scheme.NewList(s.kind) }

// Destroy implements rest.Storage.
func (s *objects) Destroy() {}

// NamespaceScoped implements rest.Scoper.
func (s *objects) NamespaceScoped() bool { return s.kind.Namespaced }

// GetSingularName implements rest.SingularNameProvider.
func (s *objects) GetSingularName() string { return s.kind.Singular }

// ShortNames implements rest.ShortNamesProvider.
func (s *objects) ShortNames() []string { return s.kind.ShortNames }

// all are the kinds that `kubectl get all` shows, as in Kubernetes.
var all = []string{"pods", "replicationcontrollers", "services", "daemonsets", "deployments", "replicasets", "statefulsets", "jobs", "cronjobs"}

// Categories implements rest.CategoriesProvider.
func (s *objects) Categories() []string {
	if slices.Contains(all, s.kind.Resource) {
		return []string{"all"}
	}
	return nil
}

// GetResetFields implements rest.ResetFieldsStrategy: a status is not written
// with its object.
func (s *objects) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	if !HasStatus(s.kind) {
		return nil
	}
	return map[fieldpath.APIVersion]*fieldpath.Set{
		fieldpath.APIVersion(s.kind.GVK.GroupVersion().String()): fieldpath.NewSet(fieldpath.MakePathOrDie("status")),
	}
}

func (s *objects) groupResource() kschema.GroupResource {
	return kschema.GroupResource{Group: s.kind.GVK.Group, Resource: s.kind.Resource}
}

// key is the key of the object of that name in the request's namespace.
func (s *objects) key(ctx context.Context, name string) schema.Key {
	return s.kind.Key(request.NamespaceValue(ctx), name)
}

// write carries out a write, or only works it out.
func (s *objects) write(ctx context.Context, w registry.Write, key schema.Key, dryRun []string) (schema.Object, error) {
	if len(dryRun) > 0 {
		obj, err := s.cfg.Registries.DryRun(ctx, w)
		return obj, failure.Of(err, key)
	}
	if w.Delete != nil {
		left, err := s.cfg.Registries.Delete(ctx, *w.Delete)
		return left, failure.Of(err, key)
	}
	objs, _, err := s.cfg.Registries.Commit(ctx, []registry.Write{w})
	if err != nil {
		return nil, failure.Of(err, key)
	}
	return objs[0], nil
}

// own warns of, or refuses, a write to what git owns.
func (s *objects) own(ctx context.Context, old, updated schema.Object) error {
	if s.cfg.Owned == nil {
		return nil
	}
	owned := s.cfg.Owned(old, updated)
	if len(owned) == 0 {
		return nil
	}
	if s.cfg.DenyOwned {
		obj := updated
		if obj == nil {
			obj = old
		}
		return apierrors.NewForbidden(s.groupResource(), obj.GetName(), ownedError(owned))
	}
	for _, text := range owned {
		warning.AddWarning(ctx, "", text)
	}
	return nil
}
