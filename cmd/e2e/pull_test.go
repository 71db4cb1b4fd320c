package e2e

import (
	"bytes"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/evenkeel/evenkeel/testdata/images"
)

// TestPullFromLoopbackRegistry runs a pod whose image only a registry has.
func TestPullFromLoopbackRegistry(t *testing.T) {
	require(t)
	t.Parallel()
	s := startSite(t, false, func(r repo) { r.write("lab.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: lab}\n") })
	address := s.startRegistry()
	ref := address + "/team/echo:7"
	l := laboratory{s}
	s.repo.write("pod.yaml", barePod("pulled", ref, ""))
	s.apply("a pod whose image is not pushed yet")
	l.reason("pulled", "Image", ref)
	s.pushImage(ref)
	t.Logf("runs %v after its image was pushed", s.cluster.ready())
	if who, err := get(s.host.ns, "http://"+l.podIP("pulled")+":8080"); err != nil || who != "pulled\n" {
		t.Errorf("%q answers, %v", who, err)
	}
}

// startRegistry serves a registry on the host's loopback until the test ends.
func (s *site) startRegistry() (address string) {
	s.t.Helper()
	var listener net.Listener
	s.inside(s.host.ns, func() (err error) {
		listener, err = net.Listen("tcp", "127.0.0.1:5000")
		return err
	})
	server := &http.Server{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0))), ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	s.t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return listener.Addr().String()
}

// pushImage pushes the echo image from the host, by the OCI distribution
// specification.
func (s *site) pushImage(ref string) {
	s.t.Helper()
	img, err := images.Image(s.t.Context(), filepath.Join(root, "testdata", "echo", "src"), images.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	tag, err := name.NewTag(ref, name.Insecure)
	if err != nil {
		s.t.Fatal(err)
	}
	base := "http://" + tag.RegistryStr() + "/v2/" + tag.RepositoryStr()
	config, configErr := img.RawConfigFile()
	manifest, manifestErr := img.Manifest()
	raw, rawErr := img.RawManifest()
	layers, layersErr := img.Layers()
	if err := errors.Join(configErr, manifestErr, rawErr, layersErr); err != nil {
		s.t.Fatal(err)
	}
	const blob = "application/octet-stream"
	for i, layer := range layers {
		content, err := layer.Compressed()
		if err != nil {
			s.t.Fatal(err)
		}
		s.upload(http.MethodPost, base+"/blobs/uploads/?digest="+manifest.Layers[i].Digest.String(), blob, content)
	}
	s.upload(http.MethodPost, base+"/blobs/uploads/?digest="+manifest.Config.Digest.String(), blob, bytes.NewReader(config))
	s.upload(http.MethodPut, base+"/manifests/"+tag.TagStr(), string(manifest.MediaType), bytes.NewReader(raw))
}

func (s *site) upload(method, target, mediaType string, body io.Reader) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, target, body)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", mediaType)
	uploader := client(s.host.ns)
	uploader.Timeout = patience // layers are compressed as they are sent
	res, err := uploader.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusCreated {
		s.t.Fatalf("%s %s: %s", method, target, res.Status)
	}
}
