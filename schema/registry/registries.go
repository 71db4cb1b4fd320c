package registry

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	kschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/evenkeel/evenkeel/schema"
)

// ErrFenced is the error of a write by a leader that is no longer the leader.
var ErrFenced = errors.New("no longer the leader")

// Validator fills in defaults and judges objects. schema/validation is the
// one of Kubernetes' rules.
type Validator interface {
	Default(obj schema.Object)
	Validate(obj schema.Object) field.ErrorList
	ValidateUpdate(updated, old schema.Object) field.ErrorList
	// ValidateEphemeral judges a change of a pod's ephemeral containers.
	ValidateEphemeral(updated, old *corev1.Pod) field.ErrorList
	// ValidateResize judges a change of a pod's CPU and memory.
	ValidateResize(updated, old *corev1.Pod) field.ErrorList
}

// Config says by which rules objects are made.
type Config struct {
	Validator   Validator        // nil: objects are taken as they are
	ServiceCIDR netip.Prefix     // cluster IPs; default 10.96.0.0/16
	NodePorts   PortRange        // default 30000-32767
	Now         func() time.Time // default time.Now

	// ServiceAccounts gives every new pod a service account and, unless it or
	// the account says no, access to the API in its name: a volume with a
	// token, which a control plane that serves the API has to see to.
	ServiceAccounts bool
}

// PortRange is inclusive at both ends.
type PortRange struct{ First, Last int32 }

// DefaultServiceCIDR and DefaultNodePorts are what a zero Config means.
var (
	DefaultServiceCIDR = netip.MustParsePrefix("10.96.0.0/16")
	DefaultNodePorts   = PortRange{30000, 32767}
)

// Registries create, read, change and delete objects by their rules. They keep
// nothing in memory: the store is the truth. Errors about objects are those of
// k8s.io/apimachinery/pkg/api/errors; all others come from the Store. All
// methods are safe to call at once. Objects given are never changed, objects
// returned belong to the caller.
type Registries struct {
	store  Store
	cfg    Config
	fence  *Guard
	events *eventLease
}

// New returns registries on a store.
func New(store Store, cfg Config) *Registries {
	if !cfg.ServiceCIDR.IsValid() {
		cfg.ServiceCIDR = DefaultServiceCIDR
	}
	if cfg.NodePorts == (PortRange{}) {
		cfg.NodePorts = DefaultNodePorts
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Registries{store: store, cfg: cfg, events: &eventLease{}}
}

// Store returns the store beneath.
func (r *Registries) Store() Store { return r.store }

// Fenced returns the same registries whose every write happens only while the
// guard holds, and fails with ErrFenced when it does not.
func (r *Registries) Fenced(guard Guard) *Registries {
	fenced := *r
	fenced.fence = &guard
	return &fenced
}

// Term is the revision at which the term of a fenced leader began, 0 without a
// fence. All that earlier leaders wrote lies before it: who decides on a Mirror
// waits for it first.
func (r *Registries) Term() int64 {
	if r.fence == nil {
		return 0
	}
	return r.fence.Mod
}

// Get returns an object as people see it: a pod or node with its status.
func (r *Registries) Get(ctx context.Context, key schema.Key) (schema.Object, error) {
	if key.Resource == bindings {
		return nil, notSupported("get")
	}
	cur, err := r.read(ctx, key)
	if err != nil {
		return nil, err
	}
	return cur.joined(), nil
}

// List returns the objects of a kind in one namespace, or in all for "", as of
// one revision, sorted by key.
func (r *Registries) List(ctx context.Context, kind *schema.Kind, namespace string) ([]schema.Object, int64, error) {
	kvs, revision, err := r.store.List(ctx, watchPrefix(kind, namespace), 0)
	if err != nil {
		return nil, 0, err
	}
	v, err := newJoiner(kvs)
	if err != nil {
		return nil, 0, err
	}
	return v.list(kind, namespace), revision, nil
}

// stored is an object as its keys have it now.
type stored struct {
	object  schema.Object // of the object's own key; RV is Mod
	mod     int64
	status  schema.Object // of the agent's status key, or nil
	present bool          // a node's lease is there
}

func (s stored) joined() schema.Object { return join(s.object, s.status, s.present) }

// read gets an object with its status parts; not one revision, which is enough
// for what is then guarded by mod.
func (r *Registries) read(ctx context.Context, key schema.Key) (stored, error) {
	kv, err := r.store.Get(ctx, key.Path())
	if errors.Is(err, ErrNotFound) {
		return stored{}, apierrors.NewNotFound(groupResource(key.Resource), key.Name)
	}
	if err != nil {
		return stored{}, err
	}
	obj, err := decode(kv)
	if err != nil {
		return stored{}, err
	}
	cur := stored{object: obj, mod: kv.Mod}
	statusPath, leasePath := statusPaths(obj)
	if statusPath != "" {
		if cur.status, err = r.readStatus(ctx, statusPath); err != nil {
			return stored{}, err
		}
	}
	if leasePath != "" {
		_, err := r.store.Get(ctx, leasePath)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return stored{}, err
		}
		cur.present = err == nil
	}
	return cur, nil
}

func (r *Registries) readStatus(ctx context.Context, path string) (schema.Object, error) {
	kv, err := r.store.Get(ctx, path)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return decode(kv)
}

// decode reads a stored object and gives it its revision.
func decode(kv KV) (schema.Object, error) {
	obj, err := schema.DecodeObject(kv.Value)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", kv.Key, err)
	}
	obj.SetResourceVersion(strconv.FormatInt(kv.Mod, 10))
	return obj, nil
}

func groupResource(resource string) kschema.GroupResource {
	k, _ := schema.KindOfResource(resource)
	if k == nil {
		return kschema.GroupResource{Resource: resource}
	}
	return kschema.GroupResource{Group: k.GVK.Group, Resource: resource}
}
