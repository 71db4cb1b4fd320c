package apiserver_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/cert"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/apiserver"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/registry/memory"
	"github.com/evenkeel/evenkeel/schema/validation"
)

// world is a server, what lies below it, and clients to it.
type world struct {
	t      testing.TB
	store  registry.Store
	regs   *registry.Registries
	mirror *registry.Mirror
	config *rest.Config
	kube   *kubernetes.Clientset
	dyn    *dynamic.DynamicClient
	addr   string
	stop   func()
}

// everybody is let in as an administrator.
var everybody = authenticator.RequestFunc(func(*http.Request) (*authenticator.Response, bool, error) {
	return &authenticator.Response{User: &user.DefaultInfo{Name: "tester", Groups: []string{user.SystemPrivilegedGroup, user.AllAuthenticated}}}, true, nil
})

// serve starts a server over a store, and stops it when the test ends.
func serve(t testing.TB, store registry.Store, change ...func(*apiserver.Config)) *world {
	t.Helper()
	return serveAt(t, store, "127.0.0.1:0", change...)
}

func serveAt(t testing.TB, store registry.Store, addr string, change ...func(*apiserver.Config)) *world {
	t.Helper()
	w := &world{t: t, store: store, regs: registry.New(store, registry.Config{Validator: validation.Rules{}})}
	logger := slog.New(slog.DiscardHandler)
	if os.Getenv("LOG") != "" {
		logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	w.mirror = registry.NewMirror(registry.MirrorConfig{Store: store, Logger: logger})
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	w.addr = listener.Addr().String()
	certPEM, keyPEM, err := cert.GenerateSelfSignedCertKey("127.0.0.1", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	serving, err := dynamiccertificates.NewStaticCertKeyContent("test", certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	cfg := apiserver.Config{
		Registries: w.regs, Mirror: w.mirror, Listeners: []net.Listener{listener}, Certificate: serving,
		Authenticator: everybody, Authorizer: authorizerfactory.NewAlwaysAllowAuthorizer(), Logger: logger,
	}
	for _, c := range change {
		c(&cfg)
	}
	server, err := apiserver.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return w.mirror.Run(ctx) })
	g.Go(func() error { return server.Run(ctx) })
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := g.Wait(); err != nil {
			t.Errorf("server: %v", err)
		}
	})
	t.Cleanup(w.stop)
	w.config = &rest.Config{Host: "https://" + w.addr, TLSClientConfig: rest.TLSClientConfig{CAData: certPEM}, QPS: -1}
	w.kube = kubernetes.NewForConfigOrDie(w.config)
	w.dyn = dynamic.NewForConfigOrDie(w.config)
	return w
}

// inMemory starts a server over an empty store with namespace "default".
func inMemory(t testing.TB, change ...func(*apiserver.Config)) *world {
	t.Helper()
	return inMemoryOver(t, memory.New(), change...)
}

func inMemoryOver(t testing.TB, store *memory.Store, change ...func(*apiserver.Config)) *world {
	t.Helper()
	w := serve(t, store, change...)
	w.must(w.regs.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}))
	return w
}

func (w *world) must(_ any, err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func configMap(name string, data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Data: data}
}

func pod(name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", Labels: map[string]string{"app": name}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "example.org/c:1"}}},
	}
}

func kindOf(t testing.TB, resource string) *schema.Kind {
	t.Helper()
	kind, ok := schema.KindOfResource(resource)
	if !ok {
		t.Fatalf("no kind %s", resource)
	}
	return kind
}

func deletionOf(obj schema.Object) registry.Deletion {
	return registry.Deletion{Key: schema.KeyOf(obj)}
}

// eventually waits until a condition holds.
func eventually(t testing.TB, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(2 * time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline.C:
			t.Fatal("it did not come to be")
		case <-tick.C:
		}
	}
}
