package replication

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func controllerOf(replicas int32) *corev1.ReplicationController {
	rc := &corev1.ReplicationController{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "rc", Generation: 3}}
	rc.Spec.Replicas = &replicas
	rc.Spec.Selector = map[string]string{"app": "web"}
	rc.Spec.Template = &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web", "v": "2"}}}
	return rc
}

type podOption func(*corev1.Pod)

func podNamed(name string, options ...podOption) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": "web"}}}
	for _, o := range options {
		o(p)
	}
	return p
}

func owned(by types.UID) podOption {
	controller := true
	return func(p *corev1.Pod) {
		p.OwnerReferences = append(p.OwnerReferences, metav1.OwnerReference{UID: by, Kind: "ReplicationController", Name: "web", Controller: &controller})
	}
}

func mine(p *corev1.Pod) { owned("rc")(p) }

func labelled(k, v string) podOption { return func(p *corev1.Pod) { p.Labels[k] = v } }

func going(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: epoch} }

func in(phase corev1.PodPhase) podOption { return func(p *corev1.Pod) { p.Status.Phase = phase } }

func bound(node string) podOption { return func(p *corev1.Pod) { p.Spec.NodeName = node } }

func created(second int) podOption {
	return func(p *corev1.Pod) { p.CreationTimestamp.Time = epoch.Add(time.Duration(second) * time.Second) }
}

// ready since so many seconds.
func ready(seconds int) podOption {
	return func(p *corev1.Pod) {
		p.Status.Phase = corev1.PodRunning
		p.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Time{Time: epoch.Add(-time.Duration(seconds) * time.Second)},
		}}
	}
}

func restarted(n int32) podOption {
	return func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: n}} }
}

// decision is a plan as a test reads it.
type decision struct {
	Create                 int
	Delete, Adopt, Release []string
	Replicas               int32
	Labeled                int32
	Ready, Available       int32
	Again                  time.Duration
}

func decisionOf(p Plan) decision {
	names := func(pods []*corev1.Pod) (out []string) {
		for _, pod := range pods {
			out = append(out, pod.Name)
		}
		return out
	}
	return decision{
		p.Create, names(p.Delete), names(p.Adopt), names(p.Release),
		p.Status.Replicas, p.Status.FullyLabeledReplicas, p.Status.ReadyReplicas, p.Status.AvailableReplicas, p.Again,
	}
}

func TestCompute(t *testing.T) {
	minReady := func(rc *corev1.ReplicationController) { rc.Spec.MinReadySeconds = 10 }
	deleted := func(rc *corev1.ReplicationController) { rc.DeletionTimestamp = &metav1.Time{Time: epoch} }
	unsaid := func(rc *corev1.ReplicationController) { rc.Spec.Replicas = nil }
	for _, c := range []struct {
		name     string
		replicas int32
		change   func(*corev1.ReplicationController)
		pods     []*corev1.Pod
		want     decision
	}{
		{"from nothing", 3, nil, nil, decision{Create: 3}},
		{"one where nothing is said", 0, unsaid, nil, decision{Create: 1}},
		{"enough", 1, nil, []*corev1.Pod{podNamed("a", mine, labelled("v", "2"))}, decision{Replicas: 1, Labeled: 1}},
		{
			"replaces the dead and the going", 2, nil,
			[]*corev1.Pod{podNamed("a", mine, in(corev1.PodFailed)), podNamed("b", mine, in(corev1.PodSucceeded)), podNamed("c", mine, going)},
			decision{Create: 2},
		},
		{
			"adopts only what nobody owns and is not going", 3, nil,
			[]*corev1.Pod{podNamed("a"), podNamed("b", owned("other")), podNamed("c", going), podNamed("d", in(corev1.PodFailed)), podNamed("e", labelled("app", "db"))},
			decision{Create: 2, Adopt: []string{"a"}, Replicas: 1},
		},
		{
			"adopts and gives up what is too many", 1, nil,
			[]*corev1.Pod{podNamed("a", ready(1), bound("n")), podNamed("b", mine)},
			decision{Adopt: []string{"a"}, Delete: []string{"b"}, Replicas: 2, Ready: 1, Available: 1},
		},
		{
			"releases what matches no more", 1, nil,
			[]*corev1.Pod{podNamed("a", mine, labelled("app", "debug"))},
			decision{Create: 1, Release: []string{"a"}},
		},
		{"a deleted controller does nothing but let go", 2, deleted, []*corev1.Pod{podNamed("a"), podNamed("b", mine)}, decision{Replicas: 1}},
		{"scale to zero", 0, nil, []*corev1.Pod{podNamed("a", mine)}, decision{Delete: []string{"a"}, Replicas: 1}},
		{
			"least useful first", 1, nil,
			[]*corev1.Pod{
				podNamed("best", mine, bound("n1"), ready(100), created(1)),
				podNamed("younger ready", mine, bound("n2"), ready(50), created(1)),
				podNamed("restarted", mine, bound("n3"), ready(100), restarted(4), created(1)),
				podNamed("doubled", mine, bound("n4"), ready(100), created(1)),
				podNamed("doubled too", mine, bound("n4"), ready(200), created(1)),
				podNamed("not ready", mine, bound("n5"), in(corev1.PodRunning)),
				podNamed("pending", mine, bound("n6"), in(corev1.PodPending)),
				podNamed("unbound", mine, created(1)),
				podNamed("unbound and new", mine, created(5)),
			},
			decision{
				Delete:   []string{"unbound and new", "unbound", "pending", "not ready", "doubled", "doubled too", "younger ready", "restarted"},
				Replicas: 9, Ready: 5, Available: 5,
			},
		},
		{
			"available after minReadySeconds", 2, minReady,
			[]*corev1.Pod{podNamed("a", mine, ready(10)), podNamed("b", mine, ready(4)), podNamed("c", mine, ready(1), going)},
			decision{Replicas: 2, Ready: 2, Available: 1, Again: 6 * time.Second},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			rc := controllerOf(c.replicas)
			if c.change != nil {
				c.change(rc)
			}
			plan := Compute(rc, c.pods, epoch)
			if diff := cmp.Diff(c.want, decisionOf(plan)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if plan.Status.ObservedGeneration != 3 {
				t.Errorf("observed generation %d", plan.Status.ObservedGeneration)
			}
		})
	}
}
