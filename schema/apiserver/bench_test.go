package apiserver_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/client-go/rest"

	"github.com/evenkeel/evenkeel/schema/apiserver"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/registry/etcd"
	"github.com/evenkeel/evenkeel/schema/registry/etcd/embedded"
	"github.com/evenkeel/evenkeel/schema/registry/memory"
	"github.com/evenkeel/evenkeel/schema/validation"
)

// cpu is what this process has used: server, store and client together, so
// that what is reported is more than what the server costs.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// inEtcd starts a server over an etcd of its own.
func inEtcd(t testing.TB) *world {
	t.Helper()
	server, err := embedded.Start(t.Context(), embedded.Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	w := serve(t, etcd.NewStore(server.Client()))
	w.must(w.regs.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}))
	return w
}

// rawClient returns a client whose answers are not compressed.
func rawClient(b testing.TB, w *world) *http.Client {
	b.Helper()
	config := rest.CopyConfig(w.config)
	config.DisableCompression = true
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		b.Fatal(err)
	}
	return client
}

func fetch(b testing.TB, client *http.Client, url, accept string) int64 {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, url, nil)
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	resp, err := client.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		b.Fatalf("%s: %s, %v", url, resp.Status, err)
	}
	return n
}

// BenchmarkGet reads a pod. Floor: 0.6 ms of CPU.
func BenchmarkGet(b *testing.B) {
	w := inEtcd(b)
	w.must(w.regs.Create(b.Context(), pod("a")))
	client := rawClient(b, w)
	url := w.config.Host + pods + "/a"
	fetch(b, client, url, "application/json")
	ops := 0
	runtime.GC()
	before := cpu()
	for b.Loop() {
		fetch(b, client, url, "application/json")
		ops++
	}
	b.ReportMetric(float64(cpu()-before)/float64(ops)/1e6, "cpu-ms/get")
}

// BenchmarkNew makes a server: what it costs the start, and keeps. Floor: 35
// MiB.
func BenchmarkNew(b *testing.B) {
	store := memory.New()
	regs := registry.New(store, registry.Config{Validator: validation.Rules{}})
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	before := heap()
	var server *apiserver.Server
	for b.Loop() {
		var err error
		server, err = apiserver.New(apiserver.Config{
			Registries: regs, Authenticator: everybody, Authorizer: authorizerfactory.NewAlwaysAllowAuthorizer(),
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(heap()-before)/(1<<20), "MiB")
	runtime.KeepAlive(server)
}

// BenchmarkList lists 5,000 pods. Floors: 110 ms of CPU as JSON, 60 ms as
// protobuf.
func BenchmarkList(b *testing.B) {
	w := inMemory(b)
	for i := range 5000 {
		p := pod("p" + strconv.Itoa(i))
		p.Labels = map[string]string{"app": "web", "team": "shop", "index": strconv.Itoa(i)}
		p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "A", Value: "b"}, {Name: "C", Value: "d"}}
		w.must(w.regs.Create(b.Context(), p))
	}
	client := rawClient(b, w)
	for name, accept := range map[string]string{
		"json":     "application/json",
		"protobuf": "application/vnd.kubernetes.protobuf",
		"table":    "application/json;as=Table;v=v1;g=meta.k8s.io",
	} {
		b.Run(name, func(b *testing.B) {
			var size int64
			ops := 0
			runtime.GC()
			before := cpu()
			for b.Loop() {
				size = fetch(b, client, w.config.Host+"/api/v1/pods", accept)
				ops++
			}
			b.ReportMetric(float64(cpu()-before)/float64(ops)/1e6, "cpu-ms/list")
			b.ReportMetric(float64(size)/5000, "bytes/pod")
		})
	}
}

// BenchmarkWatch delivers an event to 500 watchers. Floor: 25 µs of CPU for
// each of them.
func BenchmarkWatch(b *testing.B) {
	const watchers, events = 500, 100
	w := inMemory(b)
	client := rawClient(b, w)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	start, err := w.kube.CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
	w.must(start, err)
	var ready, closed sync.WaitGroup
	seen := make(chan struct{}, watchers*events)
	for range watchers {
		ready.Add(1)
		closed.Go(func() {
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, w.config.Host+pods+"?watch=true&resourceVersion="+start.ResourceVersion, nil)
			resp, err := client.Do(req)
			ready.Done()
			if err != nil {
				b.Error(err)
				return
			}
			defer resp.Body.Close()
			lines := bufio.NewScanner(resp.Body)
			lines.Buffer(make([]byte, 1<<16), 1<<20)
			for lines.Scan() {
				seen <- struct{}{}
			}
		})
	}
	ready.Wait()
	n := 0
	runtime.GC()
	before := cpu()
	for b.Loop() {
		for range events {
			w.must(w.regs.Create(ctx, pod(fmt.Sprintf("p%d", n))))
			n++
			for range watchers {
				<-seen
			}
		}
	}
	b.ReportMetric(float64(cpu()-before)/float64(n)/watchers/1e3, "cpu-us/event/watcher")
	cancel()
	closed.Wait()
}

// BenchmarkCreate writes through the API, and straight to the registries.
func BenchmarkCreate(b *testing.B) {
	w := inEtcd(b)
	n := 0
	for name, create := range map[string]func(*corev1.ConfigMap) error{
		"api": func(cm *corev1.ConfigMap) error {
			_, err := w.kube.CoreV1().ConfigMaps("default").Create(b.Context(), cm, metav1.CreateOptions{})
			return err
		},
		"registry": func(cm *corev1.ConfigMap) error {
			_, err := w.regs.Create(b.Context(), cm)
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			before, ops := cpu(), 0
			for b.Loop() {
				n++
				ops++
				w.must(nil, create(configMap(fmt.Sprintf("m%d", n), map[string]string{"a": "b"})))
			}
			b.ReportMetric(float64(cpu()-before)/float64(ops)/1e6, "cpu-ms/create")
		})
	}
}
