package openapi

import (
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/munnerz/goautoneg"
)

// form is what a document is written in.
type form string

const (
	asJSON  form = "application/json"
	asV2    form = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
	asV3    form = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf"
	oldAsV2      = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
	oldAsV3      = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf"
)

// negotiate returns the form in which a client wants the document of a path.
// The index of version 3 is JSON whatever they say.
func negotiate(accept, path string) (form, bool) {
	protobuf, old := asV3, oldAsV3
	switch {
	case path == pathV3 || accept == "":
		return asJSON, true
	case path == pathV2:
		protobuf, old = asV2, oldAsV2
	}
	for _, clause := range goautoneg.ParseAccept(accept) {
		switch clause.Type + "/" + clause.SubType {
		case string(asJSON), "*/*", "application/*":
			return asJSON, true
		case string(protobuf), old:
			return protobuf, true
		}
	}
	return "", false
}

// document is a description as it is kept: compressed.
type document struct {
	packed []byte
	etag   string
	made   time.Time
}

func newDocument(data []byte) (*document, error) {
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	sum := sha512.Sum512(data)
	return &document{packed: bytes.Clone(packed.Bytes()), etag: strings.ToUpper(hex.EncodeToString(sum[:])), made: time.Now()}, nil
}

func (d *document) unpack() ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(d.packed))
	if err != nil {
		return nil, fmt.Errorf("unpack a description: %w", err)
	}
	return io.ReadAll(r)
}

// serve answers a request for the document. One that names the hash of another
// is sent to this one; one that names this one's may keep it for good.
func (d *document) serve(w http.ResponseWriter, req *http.Request, in form) {
	header := w.Header()
	header.Set("Content-Type", string(in))
	header.Set("Etag", strconv.Quote(d.etag))
	if hash := req.URL.Query().Get("hash"); hash != "" && req.URL.Path != pathV2 && req.URL.Path != pathV3 {
		if hash != d.etag {
			to := url.URL{Path: req.URL.Path, RawQuery: url.Values{"hash": {d.etag}}.Encode()}
			http.Redirect(w, req, to.String(), http.StatusMovedPermanently)
			return
		}
		header.Set("Cache-Control", "public, immutable")
		header.Set("Expires", time.Now().AddDate(1, 0, 0).UTC().Format(http.TimeFormat))
	}
	data := d.packed
	header.Add("Vary", "Accept-Encoding")
	if strings.Contains(req.Header.Get("Accept-Encoding"), "gzip") {
		header.Set("Content-Encoding", "gzip")
	} else {
		var err error
		if data, err = d.unpack(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	http.ServeContent(w, req, "", d.made, bytes.NewReader(data))
}
