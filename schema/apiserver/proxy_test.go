package apiserver_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/apiserver"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// site is what a pod serves.
func site() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		fmt.Fprintf(w, "%s %s %s", req.Method, req.URL.RequestURI(), body)
	})
	mux.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, `<a href="/there">x</a>`)
	})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, req *http.Request) { http.Redirect(w, req, "/there", http.StatusFound) })
	mux.HandleFunc("/socket", upgraded)
	return mux
}

// upgraded says back what it is told on a connection that it takes over.
func upgraded(w http.ResponseWriter, _ *http.Request) {
	conn, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	io.Copy(conn, buffered)
}

// connector is a node's agent whose pods' ports are those of this machine.
func connector() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /connect/default/web/{port}", func(w http.ResponseWriter, req *http.Request) {
		far, err := net.Dial("tcp", "127.0.0.1:"+req.PathValue("port"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer far.Close()
		near, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer near.Close()
		io.WriteString(near, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		go func() { io.Copy(far, near); far.Close() }()
		io.Copy(near, far)
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "up 1\n") })
	mux.HandleFunc("/exec/", upgraded)
	return mux
}

// proxied is a server with a pod "web" that serves sites, one of them with TLS.
type proxied struct {
	*world
	agent, port, tls string // ports
}

func newProxied(t *testing.T, change ...func(*apiserver.Config)) *proxied {
	t.Helper()
	agent, plain, secure := httptest.NewServer(connector()), httptest.NewServer(site()), httptest.NewTLSServer(site())
	for _, s := range []*httptest.Server{agent, plain, secure} {
		t.Cleanup(s.Close)
	}
	base, _ := url.Parse(agent.URL)
	p := &proxied{agent: base.Port(), port: portOf(plain), tls: portOf(secure)}
	p.world = inMemory(t, append(change, func(c *apiserver.Config) {
		c.Kubelet = func(context.Context, string) (*url.URL, http.RoundTripper, error) {
			return base, http.DefaultTransport, nil
		}
	})...)
	p.must(p.regs.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}))
	p.pod("web", "10.1.2.3")
	p.pod("young", "")
	p.pod("odd", "127.0.0.1")
	return p
}

func portOf(s *httptest.Server) string {
	_, port, _ := strings.Cut(s.Listener.Addr().String(), ":")
	return port
}

func number(port string) int32 {
	n, _ := strconv.ParseInt(port, 10, 32)
	return int32(n)
}

// pod makes a pod on the node, with an address.
func (p *proxied) pod(name, ip string) {
	p.t.Helper()
	given := pod(name)
	given.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: number(p.port)}}
	created, err := p.regs.Create(p.t.Context(), given)
	p.must(created, err)
	p.must(p.regs.Bind(p.t.Context(), registry.Binding{Pod: created.(*corev1.Pod), Node: "n1"}))
	if ip == "" {
		return
	}
	status := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: created.GetUID()}}
	status.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}}
	data, err := schema.Encode(status)
	p.must(data, err)
	report := registry.Put(schema.PodStatusPath("n1", "default", name), data)
	p.must(p.store.Commit(p.t.Context(), registry.Txn{Ops: []registry.Op{report}}))
}

const services = "/api/v1/namespaces/default/services"

// service makes a service of one endpoint.
func (p *proxied) service(name string, ready bool, address, pod string) {
	p.t.Helper()
	port, portName := number(p.port), "http"
	p.must(p.regs.Create(p.t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Spec:       corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, Ports: []corev1.ServicePort{{Name: portName, Port: 80}}},
	}))
	p.must(p.regs.Create(p.t.Context(), slice(name, ready, address, pod, discoveryv1.EndpointPort{Name: &portName, Port: &port})))
}

func slice(name string, ready bool, address, pod string, port discoveryv1.EndpointPort) *discoveryv1.EndpointSlice {
	endpoint := discoveryv1.Endpoint{Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}
	if pod != "" {
		endpoint.TargetRef = &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: pod}
	}
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Namespace: "default", Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{port}, Endpoints: []discoveryv1.Endpoint{endpoint},
	}
}

// asked is a request and what is answered: the status and a part of the body.
type asked struct {
	name, method, path string
	code               int
	want               string
}

func (p *proxied) ask(all []asked) {
	p.t.Helper()
	for _, a := range all {
		code, _, body := p.raw(a.method, a.path, "text/plain", "body")
		if code != a.code || !strings.Contains(string(body), a.want) {
			p.t.Errorf("%s: %s %s: %d %s, want %d %s", a.name, a.method, a.path, code, body, a.code, a.want)
		}
	}
}

// TestProxyPod asks a pod through the API for all that one can ask.
func TestProxyPod(t *testing.T) {
	p := newProxied(t)
	var all []asked
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
		all = append(all, asked{"with a path", method, pods + "/web:" + p.port + "/proxy/some/path?a=b", 200, method + " /some/path?a=b body"})
		if method != "GET" {
			all = append(all, asked{"without", method, pods + "/web:" + p.port + "/proxy?a=b", 200, method + " /?a=b body"})
		}
	}
	p.ask(append(all,
		asked{"only its head", "HEAD", pods + "/web/proxy/x", 200, ""},
		asked{"its first port", "GET", pods + "/web/proxy/x", 200, "GET /x"},
		asked{"by TLS", "GET", pods + "/https:web:" + p.tls + "/proxy/x", 200, "GET /x"},
		asked{"links", "GET", pods + "/web/proxy/page", 200, `<a href="` + pods + `/web/proxy/there">x</a>`},
		asked{"the slash is put there", "GET", pods + "/web/proxy?a=b", 200, "GET /?a=b"},
		asked{"moved", "GET", pods + "/web/proxy/moved", 200, "GET /there"},
		asked{"nothing listens", "GET", pods + "/web:1/proxy/", 503, "connection refused"},
		asked{"no such pod", "GET", pods + "/none/proxy/", 404, `pods \"none\" not found`},
		asked{"no address yet", "GET", pods + "/young/proxy/", 400, "address not allowed"},
		asked{"loopback", "GET", pods + "/odd:" + p.agent + "/proxy/metrics", 400, "address not allowed"},
		asked{"an unknown scheme", "GET", pods + "/ftp:web:21/proxy/", 400, "invalid pod request"},
		asked{"too many parts", "GET", pods + "/http:web:80:80/proxy/", 400, "invalid pod request"},
		asked{"no number", "GET", pods + "/web:http/proxy/", 400, "invalid pod request"},
	))
	if resp, _ := p.reader()(pods + "/web/proxy?a=b"); resp.StatusCode != 301 || resp.Header.Get("Location") != pods+"/web/proxy/?a=b" {
		t.Errorf("without a slash: %s to %s", resp.Status, resp.Header.Get("Location"))
	}
}

// TestProxyService asks services, whose endpoints are pods or nothing.
func TestProxyService(t *testing.T) {
	p := newProxied(t)
	p.service("down", false, "10.1.2.3", "web")
	p.service("outside", true, "10.9.9.9", "")
	p.service("moved", true, "10.9.9.9", "web")
	p.service("gone", true, "10.9.9.9", "none")
	p.service("up", true, "10.1.2.3", "web")
	eventually(t, func() bool {
		code, _, _ := p.raw("GET", services+"/up:http/proxy/", "", "")
		return code == 200
	})
	none := func(name string) string { return `no endpoints available for service \"` + name + `\"` }
	p.ask([]asked{
		{"by the port's name", "PUT", services + "/up:http/proxy/x", 200, "PUT /x body"},
		{"by its number", "POST", services + "/http:up:80/proxy/x", 200, "POST /x body"},
		{"a port that it does not have", "GET", services + "/up:81/proxy/", 503, `no service port 81 found for service \"up\"`},
		{"nor by name", "GET", services + "/up:other/proxy/", 503, none("up")},
		{"no such service", "GET", services + "/none:80/proxy/", 404, `services \"none\" not found`},
		{"no endpoints", "GET", services + "/none/proxy/", 503, none("none")},
		{"none that is ready", "GET", services + "/down:80/proxy/", 503, none("down")},
		{"none that is a pod", "GET", services + "/outside:80/proxy/", 503, none("outside")},
		{"an address that is not the pod's", "GET", services + "/moved:80/proxy/", 503, none("moved")},
		{"a pod that is gone", "GET", services + "/gone:80/proxy/", 503, none("gone")},
		{"a bad name", "GET", services + "/ftp:up:80/proxy/", 400, "invalid service request"},
	})
	port, name := number(p.agent), "http"
	local := slice("local", true, "127.0.0.1", "web", discoveryv1.EndpointPort{Name: &name, Port: &port})
	if _, err := p.kube.DiscoveryV1().EndpointSlices("default").Create(t.Context(), local, metav1.CreateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("an endpoint on loopback: %v", err)
	}
}

// TestProxyUpgrade takes over connections: to a pod by who may get it, to a
// node's agent only by who may create, for that is a shell in its pods.
func TestProxyUpgrade(t *testing.T) {
	mayCreate := true
	p := newProxied(t, func(c *apiserver.Config) {
		c.Authorizer = authorizer.AuthorizerFunc(func(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
			if a.GetVerb() == "create" && a.GetSubresource() == "proxy" && !mayCreate {
				return authorizer.DecisionDeny, "not to create", nil
			}
			return authorizer.DecisionAllow, "", nil
		})
	})
	shell := "/api/v1/nodes/n1/proxy/exec/default/web/c?command=sh"
	p.upgrade(pods+"/web/proxy/socket", 101)
	p.upgrade(pods+"/https:web:"+p.tls+"/proxy/socket", 101)
	p.upgrade(shell, 101)
	mayCreate = false
	p.upgrade(pods+"/web/proxy/socket", 101)
	p.upgrade(shell, 403)
	p.ask([]asked{
		{"metrics of a node", "GET", "/api/v1/nodes/n1/proxy/metrics", 200, "up 1\n"},
		{"at the agent's port", "GET", "/api/v1/nodes/https:n1:" + p.agent + "/proxy/metrics", 200, "up 1\n"},
		{"what the agent does not have", "GET", "/api/v1/nodes/n1/proxy/none", 404, ""},
		{"another port", "GET", "/api/v1/nodes/n1:22/proxy/", 400, "node n1 is reached at its agent's port"},
		{"no such node", "GET", "/api/v1/nodes/none/proxy/metrics", 404, `nodes \"none\" not found`},
		{"a bad name", "GET", "/api/v1/nodes/ftp:n1:22/proxy/", 400, "invalid node request"},
	})
}

// upgrade asks for a WebSocket, and if it gets one has its word back.
func (p *proxied) upgrade(path string, want int) {
	p.t.Helper()
	conn, err := tls.Dial("tcp", p.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	p.must(conn, err)
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", path, p.addr)
	reader := bufio.NewReader(conn)
	resp, err := http.ReadResponse(reader, nil)
	p.must(resp, err)
	defer resp.Body.Close()
	if resp.StatusCode != want {
		p.t.Errorf("%s: %s, want %d", path, resp.Status, want)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return
	}
	io.WriteString(conn, "ping")
	said := make([]byte, 4)
	if _, err := io.ReadFull(reader, said); err != nil || string(said) != "ping" {
		p.t.Errorf("%s: %q, %v", path, said, err)
	}
}

// TestProxyDiscovered lists the proxies as Kubernetes does.
func TestProxyDiscovered(t *testing.T) {
	w := inMemory(t)
	list, err := w.kube.Discovery().ServerResourcesForGroupVersion("v1")
	w.must(list, err)
	got := map[string]string{}
	for _, r := range list.APIResources {
		if strings.HasSuffix(r.Name, "/proxy") {
			got[r.Name] = r.Kind + " " + strings.Join(r.Verbs, ",")
		}
	}
	for resource, kind := range map[string]string{"pods": "Pod", "services": "Service", "nodes": "Node"} {
		if want := kind + "ProxyOptions create,delete,get,patch,update"; got[resource+"/proxy"] != want {
			t.Errorf("%s/proxy: %q, want %q", resource, got[resource+"/proxy"], want)
		}
	}
}
