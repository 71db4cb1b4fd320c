package endpoints

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/evenkeel/evenkeel/schema"
)

func newService(change ...func(*corev1.Service)) *corev1.Service {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "svc"}}
	svc.Spec.Selector = map[string]string{"app": "web"}
	svc.Spec.ClusterIP = "10.96.0.7"
	svc.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080), Protocol: corev1.ProtocolTCP}}
	for _, c := range change {
		c(svc)
	}
	return svc
}

func newPod(name, ip string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name), Labels: map[string]string{"app": "web"}}}
	p.Spec.NodeName = "n1"
	p.Status.PodIP = ip
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	for _, c := range change {
		c(p)
	}
	return p
}

// describe is slices as a test reads them: name, ports, then the endpoints
// with their conditions in small letters where false.
func describe(all []*discoveryv1.EndpointSlice) []string {
	var out []string
	for _, s := range all {
		var ports, endpoints []string
		for _, p := range s.Ports {
			ports = append(ports, fmt.Sprint(*p.Name, ":", *p.Port))
		}
		for _, e := range s.Endpoints {
			text := e.Addresses[0] + " " + flag("R", e.Conditions.Ready) + flag("S", e.Conditions.Serving) + flag("T", e.Conditions.Terminating)
			if e.Hostname != nil {
				text += " " + *e.Hostname
			}
			endpoints = append(endpoints, text)
		}
		out = append(out, strings.Join(ports, ",")+" | "+strings.Join(endpoints, ", "))
	}
	slices.Sort(out)
	return out
}

func flag(letter string, value *bool) string {
	switch {
	case value == nil:
		return ""
	case *value:
		return letter
	}
	return strings.ToLower(letter)
}

func describeEndpoints(e *corev1.Endpoints) []string {
	if e == nil {
		return nil
	}
	out := []string{}
	for _, s := range e.Subsets {
		text := ""
		for _, p := range s.Ports {
			text += fmt.Sprint(p.Name, ":", p.Port, " ")
		}
		text += "|"
		for _, a := range s.Addresses {
			text += " " + a.IP
		}
		text += " |"
		for _, a := range s.NotReadyAddresses {
			text += " " + a.IP
		}
		out = append(out, text)
	}
	return out
}

func TestCompute(t *testing.T) {
	unready := func(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }
	going := func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }
	on := func(node string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = node } }
	failed := func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }
	other := func(p *corev1.Pod) { p.Labels = map[string]string{"app": "db"} }
	stopped := func(p *corev1.Pod) { p.Annotations = map[string]string{schema.StoppedAnnotation: string(p.UID)} }
	host := func(p *corev1.Pod) { p.Spec.Hostname, p.Spec.Subdomain = "a-0", "web" }
	portNamed := func(port int32) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "main", ContainerPort: port, Protocol: corev1.ProtocolTCP}}}}
		}
	}
	named := func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromString("main") }
	headless := func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone }
	portless := func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.Ports = corev1.ClusterIPNone, nil }
	publish := func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true }
	external := func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName }
	byHand := func(s *corev1.Service) { s.Spec.Selector = nil }
	manual := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Subsets: []corev1.EndpointSubset{{
		Addresses: []corev1.EndpointAddress{{IP: "192.0.2.1"}}, NotReadyAddresses: []corev1.EndpointAddress{{IP: "192.0.2.2"}},
		Ports: []corev1.EndpointPort{{Name: "http", Port: 9000, Protocol: corev1.ProtocolTCP}},
	}}}
	for _, c := range []struct {
		name      string
		service   *corev1.Service
		pods      []*corev1.Pod
		there     *corev1.Endpoints
		slices    []string
		endpoints []string
	}{
		{"nothing selected", newService(), nil, nil, []string{" | "}, []string{}},
		{
			"ready, not ready, and those that do not count", newService(),
			[]*corev1.Pod{newPod("a", "10.0.0.1"), newPod("b", "10.0.0.2", unready), newPod("c", ""), newPod("d", "10.0.0.4", failed), newPod("e", "10.0.0.5", other), newPod("f", "10.0.0.6", stopped, going)},
			nil,
			[]string{"http:8080 | 10.0.0.1 RSt, 10.0.0.2 rst"},
			[]string{"http:8080 | 10.0.0.1 | 10.0.0.2"},
		},
		{
			"ending", newService(),
			[]*corev1.Pod{newPod("a", "10.0.0.1", going), newPod("b", "10.0.0.2", going, unready)},
			nil,
			[]string{"http:8080 | 10.0.0.1 rST, 10.0.0.2 rsT"},
			[]string{},
		},
		{
			"on a node that is not ready", newService(),
			[]*corev1.Pod{newPod("a", "10.0.0.1", on("n2"))},
			nil,
			[]string{"http:8080 | 10.0.0.1 rst"},
			[]string{"http:8080 | | 10.0.0.1"},
		},
		{
			"named ports differ by pod", newService(named),
			[]*corev1.Pod{newPod("a", "10.0.0.1", portNamed(81)), newPod("b", "10.0.0.2", portNamed(82)), newPod("c", "10.0.0.3")},
			nil,
			[]string{" | 10.0.0.3 RSt", "http:81 | 10.0.0.1 RSt", "http:82 | 10.0.0.2 RSt"},
			[]string{"http:81 | 10.0.0.1 |", "http:82 | 10.0.0.2 |", "| 10.0.0.3 |"},
		},
		{
			"headless with host names", newService(headless),
			[]*corev1.Pod{newPod("a", "10.0.0.1", host)},
			nil,
			[]string{"http:8080 | 10.0.0.1 RSt a-0"},
			[]string{"http:8080 | 10.0.0.1 |"},
		},
		{"headless without ports", newService(portless), []*corev1.Pod{newPod("a", "10.0.0.1")}, nil, []string{" | 10.0.0.1 RSt"}, []string{"| 10.0.0.1 |"}},
		{
			"published before they are ready", newService(publish),
			[]*corev1.Pod{newPod("a", "10.0.0.1", unready), newPod("b", "10.0.0.2", going)},
			nil,
			[]string{"http:8080 | 10.0.0.1 Rst, 10.0.0.2 RST"},
			[]string{"http:8080 | 10.0.0.1 10.0.0.2 |"},
		},
		{"external name", newService(external), []*corev1.Pod{newPod("a", "10.0.0.1")}, nil, nil, nil},
		{"by hand", newService(byHand), nil, manual, []string{"http:9000 | 192.0.2.1 R, 192.0.2.2 r"}, nil},
		{"by hand, with a selector after all", newService(), []*corev1.Pod{newPod("a", "10.0.0.1")}, manual, []string{"http:8080 | 10.0.0.1 RSt"}, nil},
		{"by hand, nothing", newService(byHand), nil, nil, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := Compute(Input{Service: c.service, Pods: c.pods, NodeReady: func(n string) bool { return n == "n1" }, Endpoints: c.there})
			if diff := cmp.Diff(c.slices, describe(out.Slices)); diff != "" {
				t.Errorf("slices (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.endpoints, describeEndpoints(out.Endpoints)); diff != "" {
				t.Errorf("endpoints (-want +got):\n%s", diff)
			}
		})
	}
}

// TestSlicesAreStable grows and shrinks a service and looks at which slices
// change: only those whose own endpoints do.
func TestSlicesAreStable(t *testing.T) {
	pods := map[string]*corev1.Pod{}
	add := func(from, to int) {
		for i := from; i < to; i++ {
			name := fmt.Sprintf("p%03d", i)
			pods[name] = newPod(name, fmt.Sprintf("10.0.%d.%d", i/250, i%250))
		}
	}
	var have []*discoveryv1.EndpointSlice
	step := func(what string, wantChanged int, wantSizes ...int) {
		t.Helper()
		before := map[string]*discoveryv1.EndpointSlice{}
		for _, s := range have {
			before[s.Name] = s
		}
		have = Compute(Input{Service: newService(), Pods: slices.Collect(maps.Values(pods)), NodeReady: func(string) bool { return true }, Slices: have}).Slices
		changed, seen := 0, map[string]bool{}
		var sizes []int
		for _, s := range have {
			sizes = append(sizes, len(s.Endpoints))
			if cmp.Diff(before[s.Name], s) != "" {
				changed++
			}
			for _, e := range s.Endpoints {
				if seen[e.Addresses[0]] {
					t.Errorf("%s: %s is there twice", what, e.Addresses[0])
				}
				seen[e.Addresses[0]] = true
			}
			if !strings.HasPrefix(s.Name, "web-") || s.Labels[discoveryv1.LabelServiceName] != "web" || !metav1.IsControlledBy(s, newService()) {
				t.Errorf("%s: metadata %+v", what, s.ObjectMeta)
			}
		}
		slices.Sort(sizes)
		if len(seen) != len(pods) || changed != wantChanged || cmp.Diff(wantSizes, sizes) != "" {
			t.Errorf("%s: %d of %d endpoints in slices of %v, want %v; %d slices changed, want %d", what, len(seen), len(pods), sizes, wantSizes, changed, wantChanged)
		}
	}
	add(0, 250)
	step("250 at once", 3, 50, 100, 100)
	step("nothing changes", 0, 50, 100, 100)
	add(250, 260)
	step("ten more", 1, 60, 100, 100)
	delete(pods, "p005")
	step("one less", 1, 60, 99, 100)
	pods["p007"] = newPod("p007", "10.9.9.9")
	step("one has another address", 1, 60, 99, 100)
	clear(pods)
	step("all gone", 1, 0)
	add(0, 3)
	step("and back", 1, 3)
}
