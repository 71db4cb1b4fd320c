package apiserver_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// raw sends a request as it is and returns the status of the answer.
func (w *world) raw(method, path, contentType, body string, header ...string) (int, http.Header, []byte) {
	w.t.Helper()
	client, err := rest.HTTPClientFor(w.config)
	if err != nil {
		w.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.config.Host+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, data
}

const (
	maps      = "/api/v1/namespaces/default/configmaps"
	pods      = "/api/v1/namespaces/default/pods"
	rcs       = "/api/v1/namespaces/default/replicationcontrollers"
	jsonType  = "application/json"
	yamlType  = "application/yaml"
	mergeType = "application/merge-patch+json"
	patchType = "application/json-patch+json"
	stratType = "application/strategic-merge-patch+json"
	applyType = "application/apply-patch+yaml"
)

// TestErrors sends what must be refused: the code and the reason are
// Kubernetes', and nothing is written.
func TestErrors(t *testing.T) {
	w := inMemory(t)
	w.must(w.regs.Create(t.Context(), configMap("there", map[string]string{"a": "b"})))
	w.must(w.regs.Create(t.Context(), pod("there")))
	before, _, _ := w.regs.List(t.Context(), kindOf(t, "configmaps"), "")
	big := `{"metadata":{"name":"big"},"data":{"a":"` + strings.Repeat("x", 3<<20) + `"}}`
	large := `{"metadata":{"name":"big"},"data":{"a":"` + strings.Repeat("x", 1<<20+1) + `"}}`
	cases := []struct {
		name, method, path, contentType, body string
		code                                  int
		reason                                metav1.StatusReason
	}{
		{"not there", "GET", maps + "/none", "", "", 404, metav1.StatusReasonNotFound},
		{"no such resource", "GET", "/api/v1/namespaces/default/nonsense", "", "", 404, metav1.StatusReasonNotFound},
		{"no such group", "GET", "/apis/example.org/v1/things", "", "", 404, ""},
		{"already there", "POST", maps, jsonType, `{"metadata":{"name":"there"}}`, 409, metav1.StatusReasonAlreadyExists},
		{"no such namespace", "POST", "/api/v1/namespaces/none/configmaps", jsonType, `{"metadata":{"name":"x"}}`, 404, metav1.StatusReasonNotFound},
		{"other namespace", "POST", maps, jsonType, `{"metadata":{"name":"x","namespace":"other"}}`, 400, metav1.StatusReasonBadRequest},
		{"not JSON", "POST", maps, jsonType, `{"metadata":`, 400, metav1.StatusReasonBadRequest},
		{"wrong type", "POST", maps, jsonType, `{"metadata":{"name":"x"},"data":{"a":1}}`, 400, metav1.StatusReasonBadRequest},
		{"wrong kind", "POST", maps, jsonType, `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"x"}}`, 400, metav1.StatusReasonBadRequest},
		{"wrong version", "POST", maps, jsonType, `{"apiVersion":"v2","kind":"ConfigMap","metadata":{"name":"x"}}`, 400, metav1.StatusReasonBadRequest},
		{"unknown media type", "POST", maps, "text/html", `x`, 415, metav1.StatusReasonUnsupportedMediaType},
		{"unknown field", "POST", maps + "?fieldValidation=Strict", jsonType, `{"metadata":{"name":"x"},"dta":{}}`, 400, metav1.StatusReasonBadRequest},
		{"duplicate field", "POST", maps + "?fieldValidation=Strict", jsonType, `{"metadata":{"name":"x"},"data":{},"data":{}}`, 400, metav1.StatusReasonBadRequest},
		{"unknown field in YAML", "POST", maps + "?fieldValidation=Strict", yamlType, "metadata: {name: x}\ndta: {}", 400, metav1.StatusReasonBadRequest},
		{"bad field validation", "POST", maps + "?fieldValidation=Some", jsonType, `{"metadata":{"name":"x"}}`, 422, metav1.StatusReasonInvalid},
		{"bad dry run", "POST", maps + "?dryRun=Some", jsonType, `{"metadata":{"name":"x"}}`, 422, metav1.StatusReasonInvalid},
		{"invalid", "POST", maps, jsonType, `{"metadata":{"name":"Upper"}}`, 422, metav1.StatusReasonInvalid},
		{"nameless", "POST", maps, jsonType, `{}`, 422, metav1.StatusReasonInvalid},
		{"invalid pod", "POST", pods, jsonType, `{"metadata":{"name":"x"},"spec":{"containers":[]}}`, 422, metav1.StatusReasonInvalid},
		{"version of what is new", "POST", maps, jsonType, `{"metadata":{"name":"x","resourceVersion":"7"}}`, 400, metav1.StatusReasonBadRequest},
		{"too large for the server", "POST", maps, jsonType, big, 413, metav1.StatusReasonRequestEntityTooLarge},
		{"too large for the store", "POST", maps, jsonType, large, 422, metav1.StatusReasonInvalid},
		{"put what is not there", "PUT", maps + "/none", jsonType, `{"metadata":{"name":"none"}}`, 404, metav1.StatusReasonNotFound},
		{"put another name", "PUT", maps + "/there", jsonType, `{"metadata":{"name":"other"}}`, 400, metav1.StatusReasonBadRequest},
		{"put an old version", "PUT", maps + "/there", jsonType, `{"metadata":{"name":"there","resourceVersion":"1"},"data":{"a":"c"}}`, 409, metav1.StatusReasonConflict},
		{"put another UID", "PUT", maps + "/there", jsonType, `{"metadata":{"name":"there","uid":"x"},"data":{"a":"c"}}`, 409, metav1.StatusReasonConflict},
		{"change a pod's image policy", "PATCH", pods + "/there", stratType, `{"spec":{"restartPolicy":"Never"}}`, 422, metav1.StatusReasonInvalid},
		{"patch what is not there", "PATCH", maps + "/none", mergeType, `{}`, 404, metav1.StatusReasonNotFound},
		{"patch of an unknown type", "PATCH", maps + "/there", "application/x-patch", `{}`, 415, metav1.StatusReasonUnsupportedMediaType},
		{"patch that is no patch", "PATCH", maps + "/there", patchType, `{}`, 400, metav1.StatusReasonBadRequest},
		{"patch that does not fit", "PATCH", maps + "/there", patchType, `[{"op":"remove","path":"/data/none"}]`, 422, metav1.StatusReasonInvalid},
		{"patch with an old version", "PATCH", maps + "/there", mergeType, `{"metadata":{"resourceVersion":"1"},"data":{"a":"c"}}`, 409, metav1.StatusReasonConflict},
		{"apply without a manager", "PATCH", maps + "/there", applyType, `{"apiVersion":"v1","kind":"ConfigMap"}`, 422, metav1.StatusReasonInvalid},
		{"apply an unknown field", "PATCH", maps + "/there?fieldManager=m", applyType, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"there"},"dta":{}}`, 500, ""},
		{"delete what is not there", "DELETE", maps + "/none", "", "", 404, metav1.StatusReasonNotFound},
		{"delete another UID", "DELETE", maps + "/there", jsonType, `{"preconditions":{"uid":"x"}}`, 409, metav1.StatusReasonConflict},
		{"bad label selector", "GET", maps + "?labelSelector=a%20b%20c", "", "", 400, metav1.StatusReasonBadRequest},
		{"unknown field selector", "GET", maps + "?fieldSelector=spec.x=1", "", "", 400, metav1.StatusReasonBadRequest},
		{"bad version to list", "GET", maps + "?resourceVersion=x", "", "", 400, metav1.StatusReasonBadRequest},
		{"version still to come", "GET", maps + "?resourceVersion=999999", "", "", 504, metav1.StatusReasonTimeout},
		{"bad token", "GET", maps + "?limit=1&continue=x", "", "", 400, metav1.StatusReasonBadRequest},
		{"bad match", "GET", maps + "?resourceVersionMatch=Some&resourceVersion=1", "", "", 422, metav1.StatusReasonInvalid},
		{"no such representation", "GET", maps, "", "", 406, metav1.StatusReasonNotAcceptable},
		{"get bindings", "GET", "/api/v1/namespaces/default/bindings", "", "", 405, metav1.StatusReasonMethodNotAllowed},
		{"get a pod's binding", "GET", pods + "/there/binding", "", "", 405, metav1.StatusReasonMethodNotAllowed},
		{"bind to nothing", "POST", pods + "/there/binding", jsonType, `{"metadata":{"name":"there"}}`, 400, metav1.StatusReasonBadRequest},
		{"bind to no such node", "POST", pods + "/there/binding", jsonType, `{"metadata":{"name":"there"},"target":{"kind":"Node","name":"none"}}`, 404, metav1.StatusReasonNotFound},
		{"put another kind", "PUT", pods + "/there", jsonType, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"there"}}`, 400, metav1.StatusReasonBadRequest},
		{"scale below zero", "PATCH", rcs + "/none/scale", mergeType, `{"spec":{"replicas":-1}}`, 404, metav1.StatusReasonNotFound},
		{"delete the default namespace", "DELETE", "/api/v1/namespaces/default", "", "", 403, metav1.StatusReasonForbidden},
		{"all namespaces at once", "DELETE", "/api/v1/namespaces", "", "", 405, metav1.StatusReasonMethodNotAllowed},
		{"exec where there is no node", "POST", pods + "/there/exec?command=true&stdout=true", "", "", 400, metav1.StatusReasonBadRequest},
		{"log of no such container", "GET", pods + "/there/log?container=none", "", "", 400, metav1.StatusReasonBadRequest},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			var header []string
			if c.code == 406 {
				header = []string{"Accept", "image/png"}
			}
			code, _, body := w.raw(c.method, c.path, c.contentType, c.body, header...)
			var status metav1.Status
			if err := json.NewDecoder(bytes.NewReader(body)).Decode(&status); err != nil && c.reason != "" {
				t.Fatalf("%d, body %q: %v", code, body, err)
			}
			if code != c.code || c.reason != "" && (status.Reason != c.reason || int(status.Code) != c.code) {
				t.Errorf("%d %s, want %d %s: %s", code, status.Reason, c.code, c.reason, status.Message)
			}
		})
	}
	w.t = t
	after, _, _ := w.regs.List(t.Context(), kindOf(t, "configmaps"), "")
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("something was written (-before +after):\n%s", diff)
	}
}

// TestWarnings reads what is answered beside the object.
func TestWarnings(t *testing.T) {
	w := inMemory(t)
	code, header, _ := w.raw("POST", maps+"?fieldValidation=Warn", jsonType, `{"metadata":{"name":"x"},"dta":{}}`)
	if got := header.Get("Warning"); code != 201 || !strings.Contains(got, `unknown field \"dta\"`) {
		t.Errorf("%d, warning %q", code, got)
	}
	code, header, _ = w.raw("POST", maps+"?fieldValidation=Ignore", jsonType, `{"metadata":{"name":"y"},"dta":{}}`)
	if got := header.Get("Warning"); code != 201 || got != "" {
		t.Errorf("%d, warning %q", code, got)
	}
}
