package eviction_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/reconciler/controller/controllertest"
	"github.com/evenkeel/evenkeel/reconciler/controller/eviction"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

var n1 = schema.Nodes.Key("", "n1")

// lead runs the controller until the returned function is called.
func lead(w *controllertest.World) (resign func()) {
	var once sync.Once
	ended, over := make(chan struct{}), make(chan struct{})
	w.Start(func(ctx context.Context) error {
		defer close(over)
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() {
			select {
			case <-ended:
				cancel()
			case <-ctx.Done():
			}
		}()
		return eviction.Run(ctx, eviction.Config{Writer: w.Writer, Recorder: w, Logger: w.Logger})
	})
	return func() {
		once.Do(func() { close(ended) })
		<-over
	}
}

func makeNode(w *controllertest.World) {
	w.Report("n1", true)
	w.Create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
}

func makePod(w *controllertest.World, name string, tolerations ...corev1.Toleration) {
	w.Create(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{NodeName: "n1", Tolerations: tolerations}})
}

func setTaints(w *controllertest.World, taints ...corev1.Taint) {
	w.Change(n1, func(obj schema.Object) { obj.(*corev1.Node).Spec.Taints = taints })
}

// want compares the pods that are there; those that are ending have a "-".
func want(w *controllertest.World, what string, want ...string) {
	w.T.Helper()
	w.Revision()
	pods, _, err := w.Writer.Registries.List(w.T.Context(), schema.Pods, "default")
	if err != nil {
		w.T.Fatal(err)
	}
	var got []string
	for _, pod := range pods {
		name := pod.GetName()
		if pod.GetDeletionTimestamp() != nil {
			name += "-"
		}
		got = append(got, name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.T.Errorf("%s: pods (-want +got):\n%s", what, diff)
	}
}

func wantEvents(w *controllertest.World, want ...string) {
	w.T.Helper()
	if diff := cmp.Diff(want, w.Events()); diff != "" {
		w.T.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestTolerationSeconds(t *testing.T) {
	controllertest.Run(t, func(w *controllertest.World) {
		makeNode(w)
		makePod(w, "always", tolerates("team"))
		makePod(w, "long", tolerates("team", 300))
		makePod(w, "never")
		makePod(w, "short", tolerates("team", 30))
		lead(w)
		want(w, "no taint", "always", "long", "never", "short")
		setTaints(w, taint("team", "a"))
		want(w, "tainted", "always", "long", "never-", "short")
		wantEvents(w, "pods/default/never TaintManagerEviction: Marking for deletion Pod default/never: node n1 has the taint {team: a}")
		never := w.Get(schema.Pods.Key("default", "never")).(*corev1.Pod)
		marked := slices.ContainsFunc(never.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue && c.Reason == "DeletionByTaintManager"
		})
		if !marked {
			t.Errorf("conditions: %+v", never.Status.Conditions)
		}
		<-time.After(29 * time.Second)
		makePod(w, "late", tolerates("team", 30))
		want(w, "after 29 s", "always", "late", "long", "never-", "short")
		<-time.After(time.Second)
		want(w, "after 30 s", "always", "late", "long", "never-", "short-")
		w.Events()
		setTaints(w)
		wantEvents(w,
			"pods/default/late TaintManagerEviction: Cancelling deletion of Pod default/late",
			"pods/default/long TaintManagerEviction: Cancelling deletion of Pod default/long")
		<-time.After(time.Hour)
		setTaints(w, taint("team", "a"))
		<-time.After(29 * time.Second)
		want(w, "tainted again, for 29 s", "always", "late", "long", "never-", "short-")
		<-time.After(time.Second)
		want(w, "for 30 s", "always", "late-", "long", "never-", "short-")
		<-time.After(270 * time.Second)
		want(w, "for 300 s", "always", "late-", "long-", "never-", "short-")
		if diff := cmp.Diff([]string{}, w.Keys(schema.EvictionsPrefix)); diff != "" {
			t.Errorf("records are left (-want +got):\n%s", diff)
		}
	})
}

// TestGone has a node that is gone: nobody there can end a pod.
func TestGone(t *testing.T) {
	controllertest.Run(t, func(w *controllertest.World) {
		makeNode(w)
		makePod(w, "always", tolerates(corev1.TaintNodeUnreachable))
		makePod(w, "exported", tolerates(corev1.TaintNodeNotReady, 300), tolerates(corev1.TaintNodeUnreachable, 300))
		makePod(w, "mute")
		lead(w)
		<-time.After(time.Minute)
		w.Commit(registry.Delete(schema.NodeLeasePrefix + "n1"))
		setTaints(w, taint(corev1.TaintNodeUnreachable, ""))
		<-time.After(4900 * time.Millisecond)
		want(w, "before our default", "always", "exported", "mute")
		<-time.After(200 * time.Millisecond)
		want(w, "after it", "always", "exported")
		<-time.After(294 * time.Second)
		want(w, "before 300 s", "always", "exported")
		<-time.After(time.Second)
		want(w, "after them", "always")
	})
}

// TestGoneWithFinalizer has a pod that somebody holds: it is ended once.
func TestGoneWithFinalizer(t *testing.T) {
	controllertest.Run(t, func(w *controllertest.World) {
		makeNode(w)
		makePod(w, "always", tolerates(corev1.TaintNodeUnreachable))
		w.Create(&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "held", Finalizers: []string{"example.com/backup"}},
			Spec:       corev1.PodSpec{NodeName: "n1"},
		})
		lead(w)
		<-time.After(time.Minute)
		w.Commit(registry.Delete(schema.NodeLeasePrefix + "n1"))
		setTaints(w, taint(corev1.TaintNodeUnreachable, ""))
		<-time.After(time.Minute)
		w.Change(schema.Pods.Key("default", "always"), func(obj schema.Object) { obj.SetLabels(map[string]string{"a": "change"}) })
		want(w, "after a minute", "always", "held-")
		wantEvents(w, "pods/default/held TaintManagerEviction: Marking for deletion Pod default/held: node n1 has the taint {node.kubernetes.io/unreachable: }")
	})
}

func TestNotReady(t *testing.T) {
	controllertest.Run(t, func(w *controllertest.World) {
		makeNode(w)
		makePod(w, "hasty", tolerates(corev1.TaintNodeNotReady, 10))
		makePod(w, "mute")
		lead(w)
		<-time.After(time.Minute)
		w.Report("n1", true, func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionFalse })
		setTaints(w, taint(corev1.TaintNodeNotReady, ""))
		<-time.After(10 * time.Second)
		want(w, "after 10 s", "hasty-", "mute")
		<-time.After(291 * time.Second)
		want(w, "after Kubernetes' default", "hasty-", "mute-")
	})
}

// TestChangesOfLeaders has leaders that last for less than a pod waits.
func TestChangesOfLeaders(t *testing.T) {
	for _, tc := range []struct {
		name  string
		added *metav1.Time
		last  time.Duration // how long each of them leads
		want  time.Duration // when the pod goes at the latest
	}{
		{"long", nil, 100 * time.Second, 330 * time.Second},
		{"short", &metav1.Time{Time: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)}, 15 * time.Second, 460 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			controllertest.Run(t, func(w *controllertest.World) {
				makeNode(w)
				makePod(w, "long", tolerates("team", 300))
				taint := taint("team", "")
				taint.TimeAdded = tc.added
				setTaints(w, taint)
				began := time.Now()
				pod := schema.Pods.Key("default", "long")
				for w.Get(pod).GetDeletionTimestamp() == nil {
					if time.Since(began) > time.Hour {
						t.Fatal("it is there after an hour")
					}
					resign := lead(w)
					<-time.After(tc.last)
					resign()
				}
				end := w.Get(pod)
				grace := time.Duration(*end.GetDeletionGracePeriodSeconds()) * time.Second
				if after := end.GetDeletionTimestamp().Sub(began) - grace; after < 300*time.Second || after > tc.want {
					t.Errorf("it went after %v, want 5m0s to %v", after, tc.want)
				}
			})
		})
	}
}

// TestAnotherTaintOfTheName has a taint that went and came back while nobody
// led.
func TestAnotherTaintOfTheName(t *testing.T) {
	controllertest.Run(t, func(w *controllertest.World) {
		makeNode(w)
		makePod(w, "long", tolerates("team", 300))
		setTaints(w, taint("team", ""))
		resign := lead(w)
		<-time.After(290 * time.Second)
		resign()
		if diff := cmp.Diff([]string{"n1"}, w.Keys(schema.EvictionsPrefix)); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
		setTaints(w)
		setTaints(w, taint("team", ""))
		lead(w)
		<-time.After(290 * time.Second)
		want(w, "after 290 s of the new one", "long")
		<-time.After(20 * time.Second)
		want(w, "after 310 s", "long-")
	})
}

// TestBackBeforeTheEnd has a node come back before anybody takes its taint away.
func TestBackBeforeTheEnd(t *testing.T) {
	controllertest.Run(t, func(w *controllertest.World) {
		makeNode(w)
		makePod(w, "mute")
		lead(w)
		<-time.After(time.Minute)
		w.Commit(registry.Delete(schema.NodeLeasePrefix + "n1"))
		setTaints(w, taint(corev1.TaintNodeUnreachable, ""))
		<-time.After(4 * time.Second)
		w.Report("n1", true)
		<-time.After(time.Hour)
		want(w, "the taint is left", "mute")
	})
}

// TestManyPods has more than fit in one transaction.
func TestManyPods(t *testing.T) {
	controllertest.Run(t, func(w *controllertest.World) {
		makeNode(w)
		for i := range 110 {
			makePod(w, fmt.Sprintf("p%03d", i))
		}
		lead(w)
		setTaints(w, taint("team", ""))
		w.Revision()
		if events := strings.Join(w.Events(), "\n"); strings.Count(events, "Marking for deletion") != 110 {
			t.Errorf("events:\n%s", events)
		}
	})
}
