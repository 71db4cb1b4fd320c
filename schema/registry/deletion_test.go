package registry_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/registry/memory"
)

var web = schema.ConfigMaps.Key("default", "web")

func configMap(finalizers ...string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", Finalizers: finalizers}}
}

func TestPropagation(t *testing.T) {
	const orphan, foreground = metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents
	for name, tc := range map[string]struct {
		has    []string
		policy []metav1.DeletionPropagation
		want   []string // nil: it is gone
	}{
		"default":                {nil, []metav1.DeletionPropagation{""}, nil},
		"background":             {nil, []metav1.DeletionPropagation{metav1.DeletePropagationBackground}, nil},
		"foreground":             {nil, []metav1.DeletionPropagation{metav1.DeletePropagationForeground}, []string{foreground}},
		"orphan":                 {[]string{"a/b"}, []metav1.DeletionPropagation{metav1.DeletePropagationOrphan}, []string{"a/b", orphan}},
		"as the finalizer says":  {[]string{orphan}, []metav1.DeletionPropagation{""}, []string{orphan}},
		"another than finalizer": {[]string{orphan}, []metav1.DeletionPropagation{metav1.DeletePropagationBackground}, nil},
		"held by others":         {[]string{"a/b"}, []metav1.DeletionPropagation{""}, []string{"a/b"}},
		"changed meanwhile":      {nil, []metav1.DeletionPropagation{metav1.DeletePropagationForeground, metav1.DeletePropagationOrphan}, []string{orphan}},
		"not waited for":         {nil, []metav1.DeletionPropagation{metav1.DeletePropagationForeground, metav1.DeletePropagationBackground}, nil},
		"twice":                  {nil, []metav1.DeletionPropagation{metav1.DeletePropagationForeground, ""}, []string{foreground}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRegistries(t)
			must[schema.Object](t)(r.Create(t.Context(), configMap(tc.has...)))
			for _, policy := range tc.policy {
				if _, err := r.Delete(t.Context(), registry.Deletion{Key: web, Propagation: policy}); err != nil {
					t.Fatal(err)
				}
			}
			got, err := r.Get(t.Context(), web)
			if tc.want == nil {
				if !apierrors.IsNotFound(err) {
					t.Errorf("still there: %v, %v", got, err)
				}
				return
			}
			if err != nil || got.GetDeletionTimestamp() == nil {
				t.Fatalf("not marked: %v, %v", got, err)
			}
			if diff := cmp.Diff(tc.want, got.GetFinalizers()); diff != "" {
				t.Errorf("finalizers (-want +got):\n%s", diff)
			}
		})
	}
}

// TestFinalizersInAnyOrder holds the registry to a model of the life of an
// object with finalizers, through random sequences of writes.
func TestFinalizersInAnyOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := registry.New(memory.New(), registry.Config{})
		ctx := t.Context()
		if _, err := r.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}); err != nil {
			rt.Fatal(err)
		}
		var exists, deleting bool
		var finalizers []string
		version := ""
		for step, n := 0, rapid.IntRange(1, 25).Draw(rt, "steps"); step < n; step++ {
			op := rapid.SampledFrom([]string{"create", "delete", "finalizers", "touch", "same"}).Draw(rt, "op")
			set := slices.DeleteFunc([]string{"x/a", "x/b"}, func(string) bool { return rapid.Bool().Draw(rt, "drop") })
			var err error
			switch op {
			case "create":
				_, err = r.Create(ctx, configMap(set...))
				if !exists {
					exists, deleting, finalizers = true, false, set
				} else if apierrors.IsAlreadyExists(err) {
					err = nil
				}
			case "delete":
				_, err = r.Delete(ctx, registry.Deletion{Key: web})
				deleting = exists
			default:
				_, err = r.Mutate(ctx, web, func(o schema.Object) error {
					switch op {
					case "finalizers":
						o.SetFinalizers(set)
					case "touch":
						o.(*corev1.ConfigMap).Data = map[string]string{"step": strings.Repeat("x", step)}
					}
					return nil
				})
				if op == "finalizers" && exists {
					finalizers = set
				}
			}
			wasThere := exists || op == "create"
			if exists && deleting && len(finalizers) == 0 {
				exists, deleting = false, false
			}
			if !wasThere && apierrors.IsNotFound(err) {
				err = nil
			}
			if err != nil {
				rt.Fatalf("%s: %v", op, err)
			}
			got, err := r.Get(ctx, web)
			if exists != (err == nil) || err != nil && !apierrors.IsNotFound(err) {
				rt.Fatalf("after %s it exists: %v; %v", op, exists, err)
			}
			if !exists {
				version = ""
				continue
			}
			if (got.GetDeletionTimestamp() != nil) != deleting || !slices.Equal(got.GetFinalizers(), finalizers) {
				rt.Fatalf("after %s: deleting %v with %v, got %+v", op, deleting, finalizers, got)
			}
			if op == "same" && got.GetResourceVersion() != version {
				rt.Fatalf("a write that changes nothing went from %s to %s", version, got.GetResourceVersion())
			}
			version = got.GetResourceVersion()
		}
	})
}

// TestPodWithFinalizers: grace and finalizers hold a pod both, each by itself.
func TestPodWithFinalizers(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r := registry.New(memoryWithNamespace(t), registry.Config{Now: func() time.Time { return now }})
	p := pod("a", "n1")
	p.Finalizers = []string{"x/y"}
	key := schema.KeyOf(must[schema.Object](t)(r.Create(t.Context(), p)))
	remove := func(grace int64) schema.Object {
		t.Helper()
		return must[schema.Object](t)(r.Delete(t.Context(), registry.Deletion{Key: key, GraceSeconds: &grace}))
	}
	grace := func(obj schema.Object) (int64, time.Time) {
		return *obj.GetDeletionGracePeriodSeconds(), obj.GetDeletionTimestamp().Time
	}
	marked := remove(60)
	if g, at := grace(marked); g != 60 || !at.Equal(now.Add(time.Minute)) || marked.GetGeneration() != 2 {
		t.Errorf("marked: %d s, at %s, generation %d", g, at, marked.GetGeneration())
	}
	if again := remove(90); again.GetResourceVersion() != marked.GetResourceVersion() {
		t.Error("the grace was lengthened")
	}
	now = now.Add(10 * time.Second)
	if g, at := grace(remove(30)); g != 30 || !at.Equal(now.Add(20*time.Second)) {
		t.Errorf("shortened: %d s, at %s", g, at)
	}
	if g, at := grace(remove(0)); g != 0 || !at.Equal(now) {
		t.Errorf("at once: %d s, at %s", g, at)
	}
	last := must[schema.Object](t)(r.Mutate(t.Context(), key, func(o schema.Object) error {
		o.SetFinalizers(nil)
		return nil
	}))
	if last == nil || len(last.GetFinalizers()) != 0 {
		t.Errorf("last state: %v", last)
	}
	kvs, _, _ := r.Store().List(t.Context(), "/registry/bindings/", 0)
	if _, err := r.Get(t.Context(), key); !apierrors.IsNotFound(err) || len(kvs) != 0 {
		t.Errorf("left: %v, %d bindings", err, len(kvs))
	}
}

func TestFinishedPodIsDeletedAtOnce(t *testing.T) {
	r := newRegistries(t)
	p := must[schema.Object](t)(r.Create(t.Context(), pod("a", "n1"))).(*corev1.Pod)
	report(t, r, p, corev1.PodSucceeded)
	if _, err := r.Delete(t.Context(), registry.Deletion{Key: schema.KeyOf(p)}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Get(t.Context(), schema.KeyOf(p)); !apierrors.IsNotFound(err) {
		t.Errorf("after the deletion: %v", err)
	}
}

func TestNamespaceLifecycle(t *testing.T) {
	r := newRegistries(t)
	for _, name := range []string{"default", "kube-system", "kube-public"} {
		_, _ = r.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
		if _, err := r.Delete(t.Context(), registry.Deletion{Key: schema.Namespaces.Key("", name)}); !apierrors.IsForbidden(err) {
			t.Errorf("delete %s: %v", name, err)
		}
	}
	shop := must[schema.Object](t)(r.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Finalizers: []string{"x/y"}}}))
	for range 2 {
		got := must[schema.Object](t)(r.Delete(t.Context(), registry.Deletion{Key: schema.KeyOf(shop)})).(*corev1.Namespace)
		if got.Status.Phase != corev1.NamespaceTerminating || len(got.Spec.Finalizers) != 1 {
			t.Errorf("being deleted: %+v", got)
		}
	}
	late := configMap()
	late.Namespace = "shop"
	_, err := r.Create(t.Context(), late)
	if !apierrors.IsForbidden(err) || !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		t.Errorf("create while it ends: %v", err)
	}
	if _, err := r.Delete(t.Context(), registry.Deletion{Key: schema.KeyOf(shop), Finalize: true}); err != nil {
		t.Fatal(err)
	}
	must[schema.Object](t)(r.Mutate(t.Context(), schema.KeyOf(shop), func(o schema.Object) error {
		o.SetFinalizers(nil)
		return nil
	}))
	if _, err := r.Get(t.Context(), schema.KeyOf(shop)); !apierrors.IsNotFound(err) {
		t.Errorf("after its end: %v", err)
	}
	must[schema.Object](t)(r.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}))
	must[schema.Object](t)(r.Create(t.Context(), late))
}

func TestPreconditions(t *testing.T) {
	r := newRegistries(t)
	made := must[schema.Object](t)(r.Create(t.Context(), configMap()))
	for name, tc := range map[string]struct {
		uid, version string
		is           func(error) bool
	}{
		"another UID":       {"x", "", apierrors.IsConflict},
		"an older version":  {"", "1", apierrors.IsConflict},
		"a version to come": {"", "9999", apierrors.IsConflict},
		"no version at all": {"", "abc", apierrors.IsInvalid},
	} {
		d := registry.Deletion{Key: web, ResourceVersion: tc.version}
		d.UID = made.GetUID()
		if tc.uid != "" {
			d.UID = "x"
		}
		if _, err := r.Delete(t.Context(), d); !tc.is(err) {
			t.Errorf("delete, %s: %v", name, err)
		}
		changed := made.DeepCopyObject().(*corev1.ConfigMap)
		changed.Data = map[string]string{"a": "b"}
		changed.UID, changed.ResourceVersion = d.UID, tc.version
		if _, err := r.Update(t.Context(), changed); !tc.is(err) {
			t.Errorf("update, %s: %v", name, err)
		}
	}
	if _, err := r.Delete(t.Context(), registry.Deletion{Key: web, UID: made.GetUID(), ResourceVersion: made.GetResourceVersion()}); err != nil {
		t.Error(err)
	}
}

// TestMetadata: what the system says of an object nobody else can.
func TestMetadata(t *testing.T) {
	r := newRegistries(t)
	if _, err := r.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default"}}); !apierrors.IsInvalid(err) {
		t.Errorf("without a name: %v", err)
	}
	versioned := configMap()
	versioned.ResourceVersion = "5"
	if _, err := r.Create(t.Context(), versioned); !apierrors.IsBadRequest(err) {
		t.Errorf("with a resourceVersion: %v", err)
	}
	big := configMap()
	big.Data = map[string]string{"a": strings.Repeat("x", registry.MaxValue)}
	if _, err := r.Create(t.Context(), big); !apierrors.IsRequestEntityTooLargeError(err) || !errors.Is(err, registry.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	seen := map[string]bool{}
	for range 50 {
		got := must[schema.Object](t)(r.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: strings.Repeat("a", 60)}}))
		seen[got.GetName()] = true
		if len(got.GetName()) != 63 || got.GetNamespace() != "default" {
			t.Errorf("generated %s", schema.KeyOf(got))
		}
	}
	if len(seen) != 50 {
		t.Errorf("%d names of 50", len(seen))
	}
	fields := []metav1.ManagedFieldsEntry{{Manager: "kubectl", Operation: metav1.ManagedFieldsOperationApply, FieldsType: "FieldsV1"}}
	first := configMap()
	first.ManagedFields = fields
	made := must[schema.Object](t)(r.Create(t.Context(), first))
	changed := configMap("x/y")
	changed.ManagedFields = fields
	changed.CreationTimestamp = metav1.Unix(1, 0)
	changed.Generation = 70
	changed.DeletionTimestamp = &changed.CreationTimestamp
	got := must[schema.Object](t)(r.Update(t.Context(), changed))
	want := made.DeepCopyObject().(schema.Object)
	want.SetFinalizers([]string{"x/y"})
	want.SetResourceVersion(got.GetResourceVersion())
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("updated (-want +got):\n%s", diff)
	}
}

// TestConditionsOfOthers: an update of a bound pod's status keeps what its
// agent does not say, such as readiness gates.
func TestConditionsOfOthers(t *testing.T) {
	r := newRegistries(t)
	p := must[schema.Object](t)(r.Create(t.Context(), pod("a", "n1"))).(*corev1.Pod)
	report(t, r, p, corev1.PodRunning)
	given := must[schema.Object](t)(r.Get(t.Context(), schema.KeyOf(p))).DeepCopyObject().(*corev1.Pod)
	given.Status.Phase = corev1.PodFailed
	given.Status.Conditions = []corev1.PodCondition{{Type: "gate", Status: corev1.ConditionTrue}, {Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	got := must[schema.Object](t)(r.UpdateStatus(t.Context(), given)).(*corev1.Pod)
	want := corev1.PodStatus{Phase: corev1.PodRunning, Conditions: given.Status.Conditions[:1]}
	if diff := cmp.Diff(want, got.Status); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}
