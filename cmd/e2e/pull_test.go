package e2e

import (
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/evenkeel/evenkeel/testdata/images"
	"github.com/evenkeel/evenkeel/testdata/registry"
)

// TestPullFromLoopbackRegistry runs a pod whose image only a registry has.
func TestPullFromLoopbackRegistry(t *testing.T) {
	require(t)
	t.Parallel()
	s := startSite(t, false, func(r repo) { r.write("lab.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: lab}\n") })
	hub, address := s.startRegistry()
	ref := address + "/team/echo:7"
	l := laboratory{s}
	s.repo.write("pod.yaml", barePod("pulled", ref, "      readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}\n"))
	s.apply("a pod whose image is not pushed yet")
	l.reason("pulled", "Image", ref)
	hub.Push(t, "team/echo", "7", buildEcho(t))
	t.Logf("runs %v after its image was pushed", s.cluster.ready())
	if who, err := get(s.host.ns, "http://"+l.podIP("pulled")+":8080"); err != nil || who != "pulled\n" {
		t.Errorf("%q answers, %v", who, err)
	}
}

// startRegistry serves a registry on the host's loopback until the test ends.
func (s *site) startRegistry() (hub *registry.Registry, address string) {
	s.t.Helper()
	var listener net.Listener
	s.inside(s.host.ns, func() (err error) {
		listener, err = net.Listen("tcp", "127.0.0.1:5000")
		return err
	})
	hub = registry.New()
	server := &http.Server{Handler: hub, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	s.t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return hub, listener.Addr().String()
}

func buildEcho(t *testing.T) v1.Image {
	t.Helper()
	img, err := images.Image(t.Context(), filepath.Join(root, "testdata", "echo", "src"), images.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return img
}
