package openapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"

	"github.com/emicklei/go-restful/v3"
	"k8s.io/apiserver/pkg/server/mux"
	"k8s.io/apiserver/pkg/server/routes"
	"k8s.io/kube-openapi/pkg/builder"
	"k8s.io/kube-openapi/pkg/common/restfuladapter"
	"k8s.io/kube-openapi/pkg/handler"
	"k8s.io/kube-openapi/pkg/handler3"
)

// Where the descriptions are served.
const (
	pathV2 = "/openapi/v2"
	pathV3 = "/openapi/v3"
)

// Documents serves the descriptions of an API, as k8s.io/kube-openapi does, but
// makes them when somebody first asks, and then keeps only the documents,
// compressed: some hundred KB in place of the 20 MB that they are made from.
type Documents struct {
	container *restful.Container
	version   string

	mu   sync.Mutex
	kept map[name]*document
}

// name says which document.
type name struct {
	path string
	form form
}

// NewDocuments describes what is, or will be, in a container, as that of a
// version.
func NewDocuments(container *restful.Container, version string) *Documents {
	return &Documents{container: container, version: version, kept: map[name]*document{}}
}

// Install serves the documents where clients look for them.
func (d *Documents) Install(to *mux.PathRecorderMux) {
	to.Handle(pathV2, d)
	to.Handle(pathV3, d)
	to.HandlePrefix(pathV3+"/", d)
}

// ServeHTTP implements http.Handler.
func (d *Documents) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	w.Header().Add("Vary", "Accept")
	want, ok := negotiate(req.Header.Get("Accept"), req.URL.Path)
	if !ok {
		w.WriteHeader(http.StatusNotAcceptable)
		return
	}
	doc, err := d.get(name{req.URL.Path, want})
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	case doc == nil:
		http.NotFound(w, req)
	default:
		doc.serve(w, req, want)
	}
}

// get returns a document, or nil if there is none of that name.
func (d *Documents) get(n name) (*document, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if doc := d.kept[n]; doc != nil {
		return doc, nil
	}
	plain := name{n.path, asJSON}
	if d.kept[plain] == nil {
		if err := d.makeLocked(n.path); err != nil {
			return nil, fmt.Errorf("describe the api: %w", err)
		}
	}
	doc := d.kept[plain]
	if doc == nil || n.form == asJSON {
		return doc, nil
	}
	doc, err := doc.inProtobuf(n.path)
	if err != nil {
		return nil, fmt.Errorf("describe the api in protobuf: %w", err)
	}
	d.kept[n] = doc
	return doc, nil
}

// makeLocked makes the document of a path, and those that are made with it.
func (d *Documents) makeLocked(path string) error {
	if path == pathV2 {
		return d.makeV2Locked()
	}
	if d.kept[name{pathV3, asJSON}] != nil {
		return nil // all are made, and this is none of them
	}
	return d.makeV3Locked()
}

func (d *Documents) makeV2Locked() error {
	description, err := builder.BuildOpenAPISpecFromRoutes(restfuladapter.AdaptWebServices(d.container.RegisteredWebServices()), configV2(d.version))
	if err != nil {
		return err
	}
	description.Definitions = handler.PruneDefaults(description.Definitions)
	data, err := description.MarshalJSON()
	if err != nil {
		return err
	}
	d.kept[name{pathV2, asJSON}], err = newDocument(data)
	return err
}

// makeV3Locked has k8s.io/apiserver make its own, and asks for each of them.
func (d *Documents) makeV3Locked() error {
	made := mux.NewPathRecorderMux("openapi")
	routes.OpenAPI{V3Config: configV3(d.version)}.InstallV3(d.container, made)
	root, err := read(made, pathV3)
	if err != nil {
		return err
	}
	var index handler3.OpenAPIV3Discovery
	if err := json.Unmarshal(root, &index); err != nil {
		return err
	}
	for gv := range index.Paths {
		data, err := read(made, pathV3+"/"+gv)
		if err != nil {
			return err
		}
		if d.kept[name{pathV3 + "/" + gv, asJSON}], err = newDocument(data); err != nil {
			return err
		}
	}
	d.kept[name{pathV3, asJSON}], err = newDocument(root)
	return err
}

// inProtobuf returns the document of a path in protobuf, of one in JSON.
func (d *document) inProtobuf(path string) (*document, error) {
	data, err := d.unpack()
	if err != nil {
		return nil, err
	}
	convert := handler3.ToV3ProtoBinary
	if path == pathV2 {
		convert = handler.ToProtoBinary
	}
	if data, err = convert(data); err != nil {
		return nil, err
	}
	converted, err := newDocument(data)
	if err != nil {
		return nil, err
	}
	converted.etag = d.etag // the same description; answers vary by Accept
	return converted, nil
}

// read asks a handler for what it has, in JSON.
func read(from http.Handler, path string) ([]byte, error) {
	req, err := http.NewRequest(http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	answer := answer{header: http.Header{}, status: http.StatusOK}
	from.ServeHTTP(&answer, req)
	if answer.status != http.StatusOK {
		return nil, fmt.Errorf("%s: status %d", path, answer.status)
	}
	return answer.body.Bytes(), nil
}

// answer is a response that is kept.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) { a.status = status }

// Write implements http.ResponseWriter.
func (a *answer) Write(data []byte) (int, error) { return a.body.Write(data) }
