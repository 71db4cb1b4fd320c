package apiserver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	streams "k8s.io/cri-streaming/pkg/streaming/remotecommand"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/apiserver"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// echo is a container that says back what it is told, and then its command.
type echo struct{}

func (echo) ExecInContainer(_ context.Context, name, _, container string, cmd []string, in io.Reader, out, _ io.WriteCloser, _ bool, _ <-chan streams.TerminalSize, _ time.Duration) error {
	if in != nil {
		if _, err := io.Copy(out, in); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(out, "%s/%s: %s", name, container, strings.Join(cmd, " "))
	return err
}

// agent answers like a node's agent.
func agent(uid types.UID) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{ns}/{pod}/{container}", func(w http.ResponseWriter, req *http.Request) {
		if req.FormValue("previous") == "true" {
			http.Error(w, "previous terminated container not found", http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "log of %s, tail %s\n", req.PathValue("container"), req.FormValue("tailLines"))
	})
	mux.HandleFunc("/exec/{ns}/{pod}/{container}", func(w http.ResponseWriter, req *http.Request) {
		opts, err := streams.NewOptions(req)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		streams.ServeExec(w, req, echo{}, req.PathValue("pod"), "", req.PathValue("container"), req.URL.Query()["command"], opts,
			time.Minute, time.Minute, []string{"v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"})
	})
	mux.HandleFunc("GET /stats/summary", func(w http.ResponseWriter, _ *http.Request) {
		cores, bytes, now := uint64(250_000_000), uint64(64<<20), metav1.Now()
		cpu := &statsv1alpha1.CPUStats{Time: now, UsageNanoCores: &cores}
		memory := &statsv1alpha1.MemoryStats{Time: now, WorkingSetBytes: &bytes}
		json.NewEncoder(w).Encode(statsv1alpha1.Summary{
			Node: statsv1alpha1.NodeStats{NodeName: "n1", CPU: cpu, Memory: memory},
			Pods: []statsv1alpha1.PodStats{{
				PodRef:     statsv1alpha1.PodReference{Name: "web", Namespace: "default", UID: string(uid)},
				Containers: []statsv1alpha1.ContainerStats{{Name: "c", CPU: cpu, Memory: memory}},
			}},
		})
	})
	return mux
}

// onNode is a server with a pod on a node whose agent answers.
func onNode(t *testing.T) *world {
	t.Helper()
	base := make(chan *url.URL, 1)
	w := inMemory(t, func(c *apiserver.Config) {
		c.Kubelet = func(context.Context, string) (*url.URL, http.RoundTripper, error) {
			u := <-base
			base <- u
			return u, http.DefaultTransport, nil
		}
	})
	w.must(w.regs.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}))
	created, err := w.regs.Create(t.Context(), pod("web"))
	w.must(created, err)
	w.must(w.regs.Bind(t.Context(), registry.Binding{Pod: created.(*corev1.Pod), Node: "n1"}))
	server := httptest.NewServer(agent(created.GetUID()))
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	w.must(u, err)
	base <- u
	return w
}

// overWebSocket reads a stream to its end.
func (w *world) overWebSocket(path string) string {
	w.t.Helper()
	cfg, err := websocket.NewConfig("wss://"+w.addr+path, "http://localhost")
	w.must(cfg, err)
	cfg.Protocol = []string{"binary.k8s.io"}
	cfg.TlsConfig, err = rest.TLSConfigFor(w.config)
	w.must(cfg, err)
	conn, err := cfg.DialContext(w.t.Context())
	w.must(conn, err)
	defer conn.Close()
	text, err := io.ReadAll(conn)
	w.must(text, err)
	return string(text)
}

// TestNode asks for what only a node's agent knows.
func TestNode(t *testing.T) {
	w := onNode(t)
	tail := int64(5)
	log, err := w.kube.CoreV1().Pods("default").GetLogs("web", &corev1.PodLogOptions{TailLines: &tail}).DoRaw(t.Context())
	if err != nil || string(log) != "log of c, tail 5\n" {
		t.Errorf("log %q, %v", log, err)
	}
	if got := w.overWebSocket("/api/v1/namespaces/default/pods/web/log?tailLines=6"); got != "log of c, tail 6\n" {
		t.Errorf("log over a WebSocket: %q", got)
	}
	_, err = w.kube.CoreV1().Pods("default").GetLogs("web", &corev1.PodLogOptions{Previous: true}).Stream(t.Context())
	if err == nil || !strings.Contains(err.Error(), "previous terminated container") {
		t.Errorf("log of before: %v", err)
	}
	request := w.kube.CoreV1().RESTClient().Post().Namespace("default").Resource("pods").Name("web").SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Command: []string{"say", "hello"}, Stdin: true, Stdout: true, Stderr: true}, scheme.ParameterCodec)
	spdy, err := remotecommand.NewSPDYExecutor(w.config, "POST", request.URL())
	w.must(spdy, err)
	socket, err := remotecommand.NewWebSocketExecutor(w.config, "GET", request.URL().String())
	w.must(socket, err)
	for name, executor := range map[string]remotecommand.Executor{"SPDY": spdy, "WebSocket": socket} {
		var out, errs bytes.Buffer
		err := executor.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: strings.NewReader("input; "), Stdout: &out, Stderr: &errs})
		if err != nil || out.String() != "input; web/c: say hello" {
			t.Errorf("exec over %s: %q, %v", name, out.String(), err)
		}
	}
	if out, err := w.kubectl("", "top node"); err != nil || !strings.Contains(out, "n1     250m") {
		t.Errorf("top node: %v\n%s", err, out)
	}
	if out, err := w.kubectl("", "top pod --containers"); err != nil || !strings.Contains(out, "web   c      250m         64Mi") {
		t.Errorf("top pod: %v\n%s", err, out)
	}
}

// TestPodSubresources binds, evicts and scales.
func TestPodSubresources(t *testing.T) {
	w := inMemory(t)
	w.must(w.regs.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}))
	w.must(w.regs.Create(t.Context(), pod("web")))
	binding := `{"apiVersion":"v1","kind":"Binding","metadata":{"name":"web"},"target":{"kind":"Node","name":"n1"}}`
	if code, _, body := w.raw("POST", pods+"/web/binding", jsonType, binding); code != 201 {
		t.Errorf("bind: %d %s", code, body)
	}
	if code, _, body := w.raw("POST", pods+"/web/binding", jsonType, binding); code != 409 {
		t.Errorf("bind again: %d %s", code, body)
	}
	eviction := `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"web"},"deleteOptions":{"gracePeriodSeconds":7}}`
	if code, _, body := w.raw("POST", pods+"/web/eviction", jsonType, eviction); code != 201 {
		t.Errorf("evict: %d %s", code, body)
	}
	evicted, err := w.kube.CoreV1().Pods("default").Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil || evicted.Spec.NodeName != "n1" || evicted.DeletionGracePeriodSeconds == nil || *evicted.DeletionGracePeriodSeconds != 7 {
		t.Errorf("evicted pod: %+v, %v", evicted, err)
	}
	kind := schema.ReplicationControllers
	if _, err := w.client(kind).Create(t.Context(), sample(t, kind, "web"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if out, err := w.kubectl("", "scale rc web --replicas=5"); err != nil || !strings.Contains(out, "scaled") {
		t.Errorf("scale: %v\n%s", err, out)
	}
	scale, err := w.kube.CoreV1().ReplicationControllers("default").GetScale(t.Context(), "web", metav1.GetOptions{})
	if err != nil || scale.Spec.Replicas != 5 || scale.Status.Selector != "app=a" {
		t.Errorf("scale: %+v, %v", scale, err)
	}
	if err := w.kube.CoreV1().ReplicationControllers("default").Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
	left, err := w.kube.CoreV1().ReplicationControllers("default").Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil || len(left.Finalizers) != 1 || left.Finalizers[0] != metav1.FinalizerOrphanDependents {
		t.Errorf("deleted without a word, a controller orphans its pods: %+v, %v", left, err)
	}
}

// TestOwned writes to what git owns.
func TestOwned(t *testing.T) {
	for _, deny := range []bool{false, true} {
		w := inMemory(t, func(c *apiserver.Config) {
			c.DenyOwned = deny
			c.Owned = func(old, updated schema.Object) []string {
				if old == nil || old.GetName() != "owned" {
					return nil
				}
				return []string{"apps/web.yaml:7 at 3f9c2e1 owns data.a; it will be put back"}
			}
		})
		w.must(w.regs.Create(t.Context(), configMap("owned", map[string]string{"a": "b"})))
		code, header, body := w.raw("PATCH", maps+"/owned", mergeType, `{"data":{"a":"c"}}`)
		said := strings.Contains(header.Get("Warning")+string(body), "apps/web.yaml:7 at 3f9c2e1 owns data.a")
		if want := map[bool]int{false: 200, true: 403}[deny]; code != want || !said {
			t.Errorf("deny %v: %d, warning %q, body %s", deny, code, header.Get("Warning"), body)
		}
		if code, _, _ := w.raw("POST", maps, jsonType, `{"metadata":{"name":"free"}}`); code != 201 {
			t.Errorf("deny %v: a write to what nobody owns: %d", deny, code)
		}
	}
}

// TestEventsGroup reads and writes one event in both of its groups.
func TestEventsGroup(t *testing.T) {
	w := inMemory(t, func(c *apiserver.Config) { c.Unmirrored = []*schema.Kind{schema.Events} })
	watching, err := w.kube.EventsV1().Events("default").Watch(t.Context(), metav1.ListOptions{FieldSelector: "regarding.name=web"})
	w.must(watching, err)
	defer watching.Stop()
	core := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: "old", Namespace: "default"}, Reason: "Started", Message: "it runs", Type: corev1.EventTypeNormal,
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "web"}, Source: corev1.EventSource{Component: "test"},
	}
	w.must(w.kube.CoreV1().Events("default").Create(t.Context(), core, metav1.CreateOptions{}))
	modern := &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: "new", Namespace: "default"}, EventTime: metav1.NowMicro(), ReportingController: "example.org/test",
		ReportingInstance: "here", Action: "Run", Reason: "Stopped", Note: "it ran", Type: corev1.EventTypeNormal,
		Regarding: corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "web"},
	}
	w.must(w.kube.EventsV1().Events("default").Create(t.Context(), modern, metav1.CreateOptions{}))
	wantEvents(t, watching, "ADDED old", "ADDED new")
	got, err := w.kube.CoreV1().Events("default").Get(t.Context(), "new", metav1.GetOptions{})
	if err != nil || got.Message != "it ran" || got.InvolvedObject.Name != "web" || got.ReportingController != "example.org/test" {
		t.Errorf("in core/v1: %+v, %v", got, err)
	}
	w.must(w.kube.EventsV1().Events("default").Patch(t.Context(), "new", types.MergePatchType, []byte(`{"series":{"count":3,"lastObservedTime":"2026-01-02T03:04:05.000000Z"}}`), metav1.PatchOptions{}))
	list, err := w.kube.EventsV1().Events("default").List(t.Context(), metav1.ListOptions{FieldSelector: "regarding.name=web"})
	if err != nil || len(list.Items) != 2 || list.Items[0].Name != "new" || list.Items[0].Series == nil || list.Items[0].Series.Count != 3 {
		t.Errorf("in events.k8s.io/v1: %+v, %v", list, err)
	}
	if out, err := w.kubectl("", "get events -o wide"); err != nil || !strings.Contains(out, "pod/web") || !strings.Contains(out, "it runs") {
		t.Errorf("get events: %v\n%s", err, out)
	}
}
