package garbage_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/reconciler/controller/controllertest"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// config makes a config map that the others own.
func config(w *controllertest.World, name string, block bool, owners ...schema.Object) schema.Object {
	c := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	for _, o := range owners {
		kind, _ := schema.KindOf(o)
		c.OwnerReferences = append(c.OwnerReferences, metav1.OwnerReference{
			APIVersion: kind.GVK.GroupVersion().String(), Kind: kind.GVK.Kind, Name: o.GetName(), UID: o.GetUID(), BlockOwnerDeletion: &block,
		})
	}
	return w.Create(c)
}

// there lists the config maps as "name<owners": those on their way out have a
// minus.
func there(w *controllertest.World, what string, want ...string) {
	w.T.Helper()
	w.Revision()
	objs, _, err := w.Writer.Registries.List(w.T.Context(), schema.ConfigMaps, "")
	if err != nil {
		w.T.Fatal(err)
	}
	got := []string{}
	for _, o := range objs {
		name := o.GetName()
		if o.GetDeletionTimestamp() != nil {
			name = "-" + name
		}
		var owners []string
		for _, r := range o.GetOwnerReferences() {
			owners = append(owners, r.Name)
		}
		got = append(got, strings.TrimSuffix(name+"<"+strings.Join(owners, ","), "<"))
	}
	want = append([]string{}, want...)
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		w.T.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func end(w *controllertest.World, obj schema.Object, policy metav1.DeletionPropagation) {
	w.T.Helper()
	if _, err := w.Writer.Registries.Delete(w.T.Context(), registry.Deletion{Key: schema.KeyOf(obj), Propagation: policy}); err != nil {
		w.T.Fatal(err)
	}
}

func finalizers(w *controllertest.World, obj schema.Object, names ...string) {
	w.T.Helper()
	w.Change(schema.KeyOf(obj), func(o schema.Object) { o.SetFinalizers(names) })
}

func TestBackground(t *testing.T) {
	run(t, func(w *controllertest.World) {
		a := config(w, "a", false)
		b := config(w, "b", false, a)
		config(w, "c", false, b)
		x := config(w, "x", false)
		config(w, "both", false, a, x)
		w.Revision()
		end(w, a, "")
		there(w, "with all that it owned alone", "x", "both<x")
	})
}

func TestOrphan(t *testing.T) {
	run(t, func(w *controllertest.World) {
		a := config(w, "a", true)
		b := config(w, "b", true, a)
		config(w, "c", true, b)
		end(w, a, metav1.DeletePropagationOrphan)
		there(w, "what it owned stays", "b", "c<b")
	})
}

// TestForeground: the owner waits for those that block it, and they for
// theirs; one that does not block goes too, but is not waited for.
func TestForeground(t *testing.T) {
	run(t, func(w *controllertest.World) {
		a := config(w, "a", true)
		b := config(w, "b", true, a)
		c := config(w, "c", true, b)
		loose := config(w, "loose", false, a)
		finalizers(w, c, "test/hold")
		finalizers(w, loose, "test/hold")
		end(w, a, metav1.DeletePropagationForeground)
		there(w, "all wait for the last", "-a", "-b<a", "-c<b", "-loose<a")
		finalizers(w, c)
		there(w, "the loose one is not waited for", "-loose<a")
		finalizers(w, loose)
		there(w, "all gone")
	})
}

// TestForegroundCircle: objects that own one another go, and what holds one of
// them is waited for.
func TestForegroundCircle(t *testing.T) {
	run(t, func(w *controllertest.World) {
		a := config(w, "a", true)
		b := config(w, "b", true, a)
		c := config(w, "c", true, b)
		w.Change(schema.KeyOf(a), func(o schema.Object) {
			ref := b.GetOwnerReferences()[0]
			ref.Name, ref.UID = c.GetName(), c.GetUID()
			o.SetOwnerReferences([]metav1.OwnerReference{ref})
		})
		held := config(w, "held", true, b)
		finalizers(w, held, "test/hold")
		end(w, a, metav1.DeletePropagationForeground)
		if w.Get(schema.KeyOf(b)) == nil {
			t.Error("b went before what held it")
		}
		finalizers(w, held)
		there(w, "all gone")
	})
}

func TestReferencesThatMeanNothing(t *testing.T) {
	run(t, func(w *controllertest.World) {
		a := config(w, "a", false)
		stranger := a.DeepCopyObject().(schema.Object)
		stranger.SetUID("other")
		config(w, "of-another-uid", false, stranger)
		config(w, "of-both", false, stranger, a)
		foreign := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "foreign"}}
		foreign.OwnerReferences = []metav1.OwnerReference{{APIVersion: "example.org/v1", Kind: "Thing", Name: "thing", UID: "u"}}
		w.Create(foreign)
		cluster := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n9", OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "gone", UID: "u"}}}}
		w.Create(cluster)
		there(w, "kinds that are not ours keep, another UID does not", "a", "of-both<a", "foreign<thing")
		if w.Get(schema.Nodes.Key("", "n9")) == nil {
			t.Error("a node that refers into a namespace was removed")
		}
	})
}
