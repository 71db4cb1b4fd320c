package apiservice_test

import (
	"context"
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/evenkeel/evenkeel/reconciler/controller/apiservice"
	"github.com/evenkeel/evenkeel/reconciler/controller/controllertest"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

func server(t *testing.T, process string, port int32, addresses ...string) registry.Op {
	t.Helper()
	s := apiservice.Server{URL: "https://127.0.0.1:6443", Port: port}
	for _, a := range addresses {
		s.Addresses = append(s.Addresses, netip.MustParseAddr(a))
	}
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return registry.Put(apiservice.ServerKey(process), data)
}

// state is the service's address, and the addresses and port of its endpoints
// by both ways to tell them.
type state struct {
	IP               string
	Endpoints, Slice []string
	Ports            []int32
}

func stateOf(w *controllertest.World) state {
	w.T.Helper()
	var out state
	svc, ok := w.Get(apiservice.Key).(*corev1.Service)
	if !ok {
		return out
	}
	out.IP = svc.Spec.ClusterIP
	for _, s := range w.Get(schema.Endpoints.Key("default", "kubernetes")).(*corev1.Endpoints).Subsets {
		for _, a := range s.Addresses {
			out.Endpoints = append(out.Endpoints, a.IP)
		}
		out.Ports = append(out.Ports, s.Ports[0].Port, svc.Spec.Ports[0].TargetPort.IntVal)
	}
	for _, e := range w.Get(schema.EndpointSlices.Key("default", "kubernetes")).(*discoveryv1.EndpointSlice).Endpoints {
		out.Slice = append(out.Slice, e.Addresses...)
	}
	return out
}

func TestService(t *testing.T) {
	controllertest.Run(t, func(w *controllertest.World) {
		check := func(what string, want state) {
			t.Helper()
			if diff := cmp.Diff(want, stateOf(w)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
		w.Commit(server(t, "a", 6443, "192.0.2.1"))
		w.Start(func(ctx context.Context) error {
			return apiservice.Run(ctx, apiservice.Config{Writer: w.Writer, Logger: w.Logger, IP: netip.MustParseAddr("10.96.0.1")})
		})
		one := state{"10.96.0.1", []string{"192.0.2.1"}, []string{"192.0.2.1"}, []int32{6443, 6443}}
		check("one server", one)
		w.Commit(server(t, "b", 6443, "192.0.2.2"), server(t, "loopback", 6443), server(t, "again", 6443, "192.0.2.1"), registry.Put(schema.APIServersPrefix+"junk", []byte("{")))
		both := []string{"192.0.2.1", "192.0.2.2"}
		check("two servers", state{"10.96.0.1", both, both, []int32{6443, 6443}})
		before := w.Revision()
		w.Commit(server(t, "loopback", 6443))
		if after := w.Revision(); after != before+1 {
			t.Errorf("nothing changed and %d writes were made", after-before-1)
		}
		w.Commit(registry.Delete(apiservice.ServerKey("b")))
		check("one ended", one)
		w.Change(schema.Endpoints.Key("default", "kubernetes"), func(obj schema.Object) { obj.(*corev1.Endpoints).Subsets = nil })
		check("changed by hand", one)
		w.Delete(apiservice.Key, nil)
		check("deleted by hand", one)
		w.Commit(registry.Delete(apiservice.ServerKey("a")), registry.Delete(apiservice.ServerKey("again")))
		check("none left", state{IP: "10.96.0.1"})
	})
}

func TestOtherRange(t *testing.T) {
	controllertest.Run(t, func(w *controllertest.World) {
		w.Create(&corev1.Service{ObjectMeta: apiservice.Compute(netip.MustParseAddr("10.0.0.1"), nil).Service.ObjectMeta, Spec: corev1.ServiceSpec{
			ClusterIP: "10.96.7.7", Ports: []corev1.ServicePort{{Port: 443}},
		}})
		w.Start(func(ctx context.Context) error {
			return apiservice.Run(ctx, apiservice.Config{Writer: w.Writer, Logger: w.Logger, IP: netip.MustParseAddr("10.96.0.1")})
		})
		if got := stateOf(w).IP; got != "10.96.0.1" {
			t.Errorf("address %s", got)
		}
	})
}
