package node

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestStaticPodsFromURL: what a URL says is so, until it says otherwise; one
// that does not answer, or answers nonsense, changes nothing, and a restart
// neither.
func TestStaticPodsFromURL(t *testing.T) {
	answer := func(w http.ResponseWriter) {}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w) }))
	defer server.Close()
	memory := filepath.Join(t.TempDir(), "static", "known")
	begin := func() *staticPods {
		s, err := newStaticPods("n1", memory, []string{server.URL + "/pods"}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		s.recall()
		return s
	}
	pods := func(names ...string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			for _, name := range names {
				fmt.Fprintf(w, "---\napiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec: {containers: [{name: main, image: app:1}]}\n", name)
			}
		}
	}
	away := func(w http.ResponseWriter) { http.Error(w, "later", http.StatusServiceUnavailable) }
	broken := func(w http.ResponseWriter) { fmt.Fprint(w, "kind: Pod\nspec: {containers: []}\n") }
	s := begin()
	for _, step := range []struct {
		name    string
		answer  func(http.ResponseWriter)
		restart bool
		want    string
	}{
		{"nothing yet", away, false, ""},
		{"first", pods("a", "b"), false, "a-n1 b-n1"},
		{"away", away, false, "a-n1 b-n1"},
		{"broken", broken, false, "a-n1 b-n1"},
		{"too large", func(w http.ResponseWriter) { fmt.Fprint(w, strings.Repeat("# \n", urlBytes/3+1)) }, false, "a-n1 b-n1"},
		{"restarted while away", away, true, "a-n1 b-n1"},
		{"one less", pods("b"), false, "b-n1"},
		{"restarted", pods("b", "c"), true, "b-n1 c-n1"},
	} {
		answer = step.answer
		if step.restart {
			s = begin()
		}
		s.readAll(t.Context())
		var got []string
		for _, pod := range s.pods() {
			got = append(got, pod.Name)
			if from := pod.Annotations["kubernetes.io/config.source"]; from != "http" {
				t.Errorf("%s: pod %s is from %q", step.name, pod.Name, from)
			}
		}
		if diff := cmp.Diff(step.want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
}
