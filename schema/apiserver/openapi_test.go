package apiserver_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/rest"
)

const (
	protobufV2 = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
	protobufV3 = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf"
)

// reader gets paths of a server; it follows no redirects.
func (w *world) reader() func(path string, header ...string) (*http.Response, []byte) {
	config := rest.CopyConfig(w.config)
	config.DisableCompression = true
	client, err := rest.HTTPClientFor(config)
	w.must(client, err)
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return func(path string, header ...string) (*http.Response, []byte) {
		w.t.Helper()
		req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.config.Host+path, nil)
		w.must(req, err)
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := client.Do(req)
		w.must(resp, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		w.must(body, err)
		return resp, body
	}
}

// TestDescriptions reads the descriptions in every form and by every header
// that clients know.
func TestDescriptions(t *testing.T) {
	w := inMemory(t)
	read := w.reader()
	var index struct {
		Paths map[string]struct {
			URL string `json:"serverRelativeURL"`
		} `json:"paths"`
	}
	_, body := read("/openapi/v3")
	w.must(nil, json.Unmarshal(body, &index))
	pods := index.Paths["api/v1"].URL
	if len(index.Paths) < 10 || !strings.HasPrefix(pods, "/openapi/v3/api/v1?hash=") {
		t.Fatalf("index: %v", index)
	}
	resp, _ := read(pods)
	etag := resp.Header.Get("Etag")
	cases := []struct {
		name, path string
		header     []string
		status     int
		kind       string
	}{
		{"by hash", pods, nil, 200, "application/json"},
		{"without", "/openapi/v3/api/v1", nil, 200, "application/json"},
		{"another hash", "/openapi/v3/api/v1?hash=1", nil, 301, ""},
		{"known", pods, []string{"If-None-Match", etag}, 304, ""},
		{"anything", pods, []string{"Accept", "*/*"}, 200, "application/json"},
		{"protobuf", pods, []string{"Accept", protobufV3}, 200, protobufV3},
		{"protobuf of old clients", pods, []string{"Accept", "application/com.github.proto-openapi.spec.v3@v1.0+protobuf"}, 200, protobufV3},
		{"compressed", pods, []string{"Accept-Encoding", "gzip"}, 200, "application/json"},
		{"no such form", pods, []string{"Accept", "text/html"}, 406, ""},
		{"no such group", "/openapi/v3/apis/nothing/v1", nil, 404, ""},
		{"version 2", "/openapi/v2", nil, 200, "application/json"},
		{"version 2 in protobuf", "/openapi/v2", []string{"Accept", protobufV2 + ",application/json"}, 200, protobufV2},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			resp, body := read(c.path, c.header...)
			if resp.StatusCode != c.status || c.kind != "" && resp.Header.Get("Content-Type") != c.kind {
				t.Errorf("%s %s, want %d %s", resp.Status, resp.Header.Get("Content-Type"), c.status, c.kind)
			}
			if c.status == 200 && len(body) < 1000 {
				t.Errorf("only %q", body)
			}
		})
	}
	if immutable := resp.Header.Get("Cache-Control"); immutable != "public, immutable" {
		t.Errorf("a document by its hash may be kept: %q", immutable)
	}
	// Clients keep documents by their hashes: all servers have to have the same.
	_, again := inMemory(t).reader()("/openapi/v3")
	if diff := cmp.Diff(string(body), string(again)); diff != "" {
		t.Errorf("two servers describe themselves otherwise:\n%s", diff)
	}
}

// TestDescribed has every kind that is served among the definitions, with the
// fields that kubectl explains.
func TestDescribed(t *testing.T) {
	w := inMemory(t)
	_, body := w.reader()("/openapi/v2")
	var doc struct {
		Paths       map[string]any `json:"paths"`
		Definitions map[string]any `json:"definitions"`
	}
	w.must(nil, json.Unmarshal(body, &doc))
	for _, name := range []string{"io.k8s.api.core.v1.Pod", "io.k8s.api.core.v1.Container", "io.k8s.api.rbac.v1.Role", "io.k8s.api.coordination.v1.Lease"} {
		if doc.Definitions[name] == nil {
			t.Errorf("no definition of %s", name)
		}
	}
	for _, path := range []string{"/api/v1/namespaces/{namespace}/pods/{name}", "/apis/events.k8s.io/v1/events"} {
		if doc.Paths[path] == nil {
			t.Errorf("no path %s", path)
		}
	}
}
