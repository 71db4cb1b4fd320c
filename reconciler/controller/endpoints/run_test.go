package endpoints_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/reconciler/controller/controllertest"
	"github.com/evenkeel/evenkeel/reconciler/controller/endpoints"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

func start(w *controllertest.World) {
	w.Start(func(ctx context.Context) error { return run(ctx, w) })
}

func run(ctx context.Context, w *controllertest.World) error {
	return endpoints.Run(ctx, endpoints.Config{Writer: w.Writer, Logger: w.Logger})
}

func node(w *controllertest.World, name string) {
	w.Report(name, true)
	w.Create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
}

func service(w *controllertest.World, name string, selector map[string]string) *corev1.Service {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	svc.Spec.Selector = selector
	svc.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}
	return w.Create(svc).(*corev1.Service)
}

func ready(ip string, is corev1.ConditionStatus) func(*corev1.PodStatus) {
	return func(s *corev1.PodStatus) {
		s.Phase, s.PodIP = corev1.PodRunning, ip
		s.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: is}}
	}
}

func pod(w *controllertest.World, name, node, ip string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": "web"}}, Spec: corev1.PodSpec{NodeName: node}}
	p = w.Create(p).(*corev1.Pod)
	w.Status(p, false, ready(ip, corev1.ConditionTrue))
	return p
}

// want checks the endpoints in a service's slices: address to "ready".
func want(w *controllertest.World, what, service string, want map[string]bool) {
	w.T.Helper()
	w.Revision()
	all, _, err := w.Writer.Registries.List(w.T.Context(), schema.EndpointSlices, "default")
	if err != nil {
		w.T.Fatal(err)
	}
	got := map[string]bool{}
	for _, obj := range all {
		s := obj.(*discoveryv1.EndpointSlice)
		if s.Labels[discoveryv1.LabelServiceName] != service {
			continue
		}
		for _, e := range s.Endpoints {
			got[e.Addresses[0]] = *e.Conditions.Ready
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.T.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestEndpointsFollow(t *testing.T) {
	controllertest.Run(t, func(w *controllertest.World) {
		start(w)
		node(w, "n1")
		node(w, "n2")
		node(w, "n3")
		service(w, "web", map[string]string{"app": "web"})
		a, b := pod(w, "a", "n1", "10.0.0.1"), pod(w, "b", "n2", "10.0.0.2")
		want(w, "both ready", "web", map[string]bool{"10.0.0.1": true, "10.0.0.2": true})
		w.Status(a, false, ready("10.0.0.1", corev1.ConditionFalse))
		want(w, "one not ready", "web", map[string]bool{"10.0.0.1": false, "10.0.0.2": true})
		w.Commit(registry.Delete(schema.NodeLeasePrefix + "n2"))
		want(w, "a node gone", "web", map[string]bool{"10.0.0.1": false, "10.0.0.2": false})
		w.Report("n2", true)
		w.Delete(schema.KeyOf(b), nil)
		want(w, "ending", "web", map[string]bool{"10.0.0.1": false, "10.0.0.2": false})
		w.Delete(schema.KeyOf(b), new(int64))
		want(w, "gone", "web", map[string]bool{"10.0.0.1": false})
		w.Change(schema.KeyOf(a), func(obj schema.Object) { obj.SetLabels(nil) })
		want(w, "not selected any more", "web", map[string]bool{})
		service(w, "all", map[string]string{"app": "web"})
		pod(w, "c", "n1", "10.0.0.3")
		want(w, "a second service", "all", map[string]bool{"10.0.0.3": true})
		before := w.Revision()
		w.Report("n1", true)
		w.Status(pod(w, "unselected", "n1", ""), false)
		if after := w.Revision(); after != before+4 {
			t.Errorf("%d writes too many", after-before-4)
		}
		w.Delete(schema.Services.Key("default", "web"), nil)
		w.Delete(schema.Services.Key("default", "all"), nil)
		if left := append(w.Keys("/registry/endpointslices/"), w.Keys("/registry/endpoints/")...); len(left) != 0 {
			t.Errorf("left of services that are gone: %v", left)
		}
	})
}

// TestAllNodesGone keeps the endpoints as they were: it is we who are cut off.
func TestAllNodesGone(t *testing.T) {
	controllertest.Run(t, func(w *controllertest.World) {
		start(w)
		service(w, "web", map[string]string{"app": "web"})
		for i := range 3 {
			name := fmt.Sprint("n", i)
			node(w, name)
			pod(w, "on-"+name, name, fmt.Sprint("10.0.0.", i))
		}
		w.Commit(registry.Delete(schema.NodeLeasePrefix + "n0"))
		want(w, "one gone", "web", map[string]bool{"10.0.0.0": false, "10.0.0.1": true, "10.0.0.2": true})
		w.Commit(registry.Delete(schema.NodeLeasePrefix + "n1"))
		want(w, "most gone", "web", map[string]bool{"10.0.0.0": true, "10.0.0.1": true, "10.0.0.2": true})
		w.Commit(registry.Delete(schema.NodeLeasePrefix + "n2"))
		<-time.After(time.Hour)
		want(w, "all gone", "web", map[string]bool{"10.0.0.0": true, "10.0.0.1": true, "10.0.0.2": true})
		w.Report("n1", true)
		w.Report("n2", true)
		want(w, "most back", "web", map[string]bool{"10.0.0.0": false, "10.0.0.1": true, "10.0.0.2": true})
	})
}

// TestRestartWritesNothing: a controller that begins where all is as it should
// be must not take an endpoint out, not even for a moment.
func TestRestartWritesNothing(t *testing.T) {
	for range 20 {
		controllertest.Run(t, func(w *controllertest.World) {
			node(w, "n1")
			service(w, "web", map[string]string{"app": "web"})
			for i := range 50 {
				pod(w, fmt.Sprint("web-", i), "n1", fmt.Sprint("10.0.0.", i))
			}
			term, end := context.WithCancel(w.T.Context())
			w.Start(func(context.Context) error { return run(term, w) })
			before := w.Revision()
			end()
			start(w)
			if after := w.Revision(); after != before {
				t.Errorf("%d writes", after-before)
			}
		})
	}
}

// TestByHand mirrors Endpoints, leaves slices made by hand alone, and takes
// over when a selector is set.
func TestByHand(t *testing.T) {
	controllertest.Run(t, func(w *controllertest.World) {
		start(w)
		node(w, "n1")
		service(w, "db", nil)
		w.Create(&discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: "mine", Labels: map[string]string{discoveryv1.LabelServiceName: "other"}},
			AddressType: discoveryv1.AddressTypeIPv4,
		})
		ep := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "db"}, Subsets: []corev1.EndpointSubset{{
			Addresses: []corev1.EndpointAddress{{IP: "192.0.2.1"}}, Ports: []corev1.EndpointPort{{Name: "http", Port: 5432, Protocol: corev1.ProtocolTCP}},
		}}}
		w.Create(ep)
		want(w, "mirrored", "db", map[string]bool{"192.0.2.1": true})
		w.Change(schema.KeyOf(ep), func(obj schema.Object) { obj.(*corev1.Endpoints).Subsets[0].Addresses[0].IP = "192.0.2.9" })
		want(w, "changed", "db", map[string]bool{"192.0.2.9": true})
		w.Delete(schema.KeyOf(ep), nil)
		want(w, "deleted", "db", map[string]bool{})
		pod(w, "a", "n1", "10.0.0.1")
		w.Change(schema.Services.Key("default", "db"), func(obj schema.Object) {
			obj.(*corev1.Service).Spec.Selector = map[string]string{"app": "web"}
		})
		want(w, "selected", "db", map[string]bool{"10.0.0.1": true})
		w.Change(schema.Services.Key("default", "db"), func(obj schema.Object) { obj.(*corev1.Service).Spec.Selector = nil })
		want(w, "by hand again", "db", map[string]bool{})
		if diff := cmp.Diff([]string{"mine"}, w.Keys("/registry/endpointslices/default/")); diff != "" {
			t.Errorf("slices (-want +got):\n%s", diff)
		}
	})
}
