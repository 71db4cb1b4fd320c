package binder_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/reconciler/controller/binder"
	"github.com/evenkeel/evenkeel/reconciler/controller/controllertest"
	"github.com/evenkeel/evenkeel/reconciler/volumes"
	"github.com/evenkeel/evenkeel/schema"
)

func run(t *testing.T, test func(w *controllertest.World)) {
	controllertest.Run(t, func(w *controllertest.World) {
		w.Start(func(ctx context.Context) error {
			return binder.Run(ctx, binder.Config{Writer: w.Writer, Recorder: w, Logger: w.Logger})
		})
		test(w)
	})
}

func volume(name, size string, change ...func(*corev1.PersistentVolume)) *corev1.PersistentVolume {
	v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}}
	v.Spec.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}
	v.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	for _, c := range change {
		c(v)
	}
	return v
}

func claim(name, size string, change ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	c.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}
	for _, ch := range change {
		ch(c)
	}
	return c
}

func class(name string) func(*corev1.PersistentVolumeClaim) {
	return func(c *corev1.PersistentVolumeClaim) { c.Spec.StorageClassName = &name }
}

func classed(name string) func(*corev1.PersistentVolume) {
	return func(v *corev1.PersistentVolume) { v.Spec.StorageClassName = name }
}

// on ties a volume to a node by the label that nodes have of their name.
func on(node string) func(*corev1.PersistentVolume) {
	return func(v *corev1.PersistentVolume) {
		v.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "host", Operator: corev1.NodeSelectorOpIn, Values: []string{node}}},
		}}}}
	}
}

// want checks how claims and volumes stand, as "claim phase volume" and
// "volume phase claim".
func want(w *controllertest.World, what string, want ...string) {
	w.T.Helper()
	w.Revision()
	var got []string
	for _, kind := range []*schema.Kind{schema.PersistentVolumeClaims, schema.PersistentVolumes} {
		objs, _, err := w.Writer.Registries.List(w.T.Context(), kind, "")
		if err != nil {
			w.T.Fatal(err)
		}
		for _, o := range objs {
			switch o := o.(type) {
			case *corev1.PersistentVolumeClaim:
				got = append(got, fmt.Sprint(o.Name, " ", o.Status.Phase, " ", o.Spec.VolumeName))
			case *corev1.PersistentVolume:
				ref := ""
				if o.Spec.ClaimRef != nil {
					ref = o.Spec.ClaimRef.Name
				}
				got = append(got, fmt.Sprint(o.Name, " ", o.Status.Phase, " ", ref))
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.T.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestBinding(t *testing.T) {
	labelled := func(v *corev1.PersistentVolume) { v.Labels = map[string]string{"disk": "ssd"} }
	promised := func(v *corev1.PersistentVolume) {
		v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "default", Name: "c"}
	}
	for name, tc := range map[string]struct {
		volumes []*corev1.PersistentVolume
		claim   *corev1.PersistentVolumeClaim
		want    string // the volume
	}{
		"the smallest that fits": {[]*corev1.PersistentVolume{volume("a", "9Gi"), volume("b", "2Gi"), volume("c", "1Gi")}, claim("c", "2Gi"), "b"},
		"none is large enough":   {[]*corev1.PersistentVolume{volume("a", "1Gi")}, claim("c", "2Gi"), ""},
		"by class":               {[]*corev1.PersistentVolume{volume("a", "1Gi"), volume("b", "5Gi", classed("fast"))}, claim("c", "1Gi", class("fast")), "b"},
		"another class":          {[]*corev1.PersistentVolume{volume("a", "1Gi", classed("fast"))}, claim("c", "1Gi"), ""},
		"by access mode": {[]*corev1.PersistentVolume{volume("a", "1Gi")}, claim("c", "1Gi", func(c *corev1.PersistentVolumeClaim) {
			c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}
		}), ""},
		"by selector": {[]*corev1.PersistentVolume{volume("a", "1Gi"), volume("b", "2Gi", labelled)}, claim("c", "1Gi", func(c *corev1.PersistentVolumeClaim) {
			c.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"disk": "ssd"}}
		}), "b"},
		"one that is promised":        {[]*corev1.PersistentVolume{volume("a", "1Gi"), volume("b", "5Gi", promised)}, claim("c", "1Gi"), "b"},
		"one promised to another":     {[]*corev1.PersistentVolume{volume("a", "1Gi", promised)}, claim("d", "1Gi"), ""},
		"one that the claim names":    {[]*corev1.PersistentVolume{volume("a", "1Gi"), volume("b", "5Gi")}, claim("c", "1Gi", named("b")), "b"},
		"one it names, but too small": {[]*corev1.PersistentVolume{volume("a", "1Gi")}, claim("c", "2Gi", named("a")), "-"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(w *controllertest.World) {
				for _, v := range tc.volumes {
					w.Create(v)
				}
				w.Revision()
				w.Create(tc.claim)
				got := w.Get(schema.KeyOf(tc.claim)).(*corev1.PersistentVolumeClaim)
				phase := corev1.ClaimBound
				if tc.want == "" || tc.want == "-" {
					phase = corev1.ClaimPending
				}
				if got.Status.Phase != phase || tc.want != "-" && got.Spec.VolumeName != tc.want {
					t.Errorf("%s, volume %q", got.Status.Phase, got.Spec.VolumeName)
				}
			})
		})
	}
}

func named(volume string) func(*corev1.PersistentVolumeClaim) {
	return func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = volume }
}

// TestLife follows a claim and its volume to their ends: neither goes while it
// is in use, and what the claim leaves is not given to another.
func TestLife(t *testing.T) {
	run(t, func(w *controllertest.World) {
		w.Create(claim("c", "1Gi"))
		want(w, "no volume", "c Pending ")
		w.Create(volume("v", "1Gi"))
		want(w, "a volume comes", "c Bound v", "v Bound c")
		user := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p"}, Spec: corev1.PodSpec{NodeName: "n1"}}
		user.Spec.Volumes = []corev1.Volume{{Name: "d", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}}}
		w.Create(user)
		w.Delete(schema.PersistentVolumeClaims.Key("default", "c"), nil)
		w.Delete(schema.PersistentVolumes.Key("", "v"), nil)
		want(w, "both are used", "c Bound v", "v Bound c")
		w.Create(volume("w", "1Gi"))
		w.Delete(schema.Pods.Key("default", "p"), new(int64))
		want(w, "the pod is gone", "w Available ")
		w.Create(claim("d", "1Gi"))
		want(w, "the next", "d Bound w", "w Bound d")
		w.Delete(schema.PersistentVolumeClaims.Key("default", "d"), nil)
		w.Create(claim("e", "1Gi"))
		want(w, "what was used is not given away", "e Pending ", "w Released d")
		w.Change(schema.PersistentVolumes.Key("", "w"), func(o schema.Object) { o.(*corev1.PersistentVolume).Spec.ClaimRef = nil })
		want(w, "until somebody says so", "e Bound w", "w Bound e")
		w.Change(schema.PersistentVolumes.Key("", "w"), func(o schema.Object) { o.SetFinalizers(nil) })
		w.Delete(schema.PersistentVolumes.Key("", "w"), nil)
		want(w, "the volume is taken away", "e Lost w")
	})
}

func TestReclaimDelete(t *testing.T) {
	run(t, func(w *controllertest.World) {
		w.Create(volume("v", "1Gi", func(v *corev1.PersistentVolume) {
			v.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimDelete
		}))
		w.Create(claim("c", "1Gi"))
		want(w, "bound", "c Bound v", "v Bound c")
		w.Delete(schema.PersistentVolumeClaims.Key("default", "c"), nil)
		want(w, "nobody deletes the data", "v Failed c")
	})
}

// TestFirstConsumer: a claim that waits gets a volume on the node that the
// scheduler wrote on it; where there is none, the scheduler may choose again.
func TestFirstConsumer(t *testing.T) {
	wait := storagev1.VolumeBindingWaitForFirstConsumer
	run(t, func(w *controllertest.World) {
		local := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "local", Annotations: map[string]string{volumes.DefaultClass: "true"}}, VolumeBindingMode: &wait}
		w.Create(local)
		for _, n := range []string{"n1", "n2", "n3"} {
			w.Create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n, Labels: map[string]string{"host": n}}})
		}
		w.Create(volume("v1", "1Gi", classed("local"), on("n1")))
		w.Create(volume("v2", "5Gi", classed("local"), on("n2")))
		w.Create(claim("c", "1Gi"))
		want(w, "no pod yet", "c Pending ", "v1 Available ", "v2 Available ")
		key := schema.PersistentVolumeClaims.Key("default", "c")
		if got := w.Get(key).(*corev1.PersistentVolumeClaim); volumes.ClassOf(got) != "local" {
			t.Errorf("class %q, want the default one", volumes.ClassOf(got))
		}
		choose := func(node string) {
			w.Change(key, func(o schema.Object) { o.SetAnnotations(map[string]string{volumes.SelectedNode: node}) })
		}
		choose("n3")
		want(w, "no volume there", "c Pending ", "v1 Available ", "v2 Available ")
		if got := w.Get(key); got.GetAnnotations()[volumes.SelectedNode] != "" {
			t.Error("the node that has no volume is still chosen")
		}
		choose("n2")
		want(w, "a volume there", "c Bound v2", "v1 Available ", "v2 Bound c")
	})
}
