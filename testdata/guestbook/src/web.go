package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

const storeTimeout = 3 * time.Second

// web serves the page, and asks the store, which it finds by its name.
type web struct {
	title, store string
	client       *http.Client
}

// page is what the template shows.
type page struct {
	Title, Pod, StoreName, StoreAddress, StorePod string
	Entries                                       []entry
	Problem                                       string
	MaxName, MaxText                              int
}

func newWeb(draining *atomic.Bool) http.Handler {
	w := &web{
		title: env("GUESTBOOK_TITLE", "Guestbook"), store: env("GUESTBOOK_STORE", "guestbook-store:6380"),
		client: &http.Client{Timeout: storeTimeout},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", healthz(draining))
	mux.HandleFunc("GET /{$}", w.show)
	mux.HandleFunc("POST /{$}", w.post)
	mux.HandleFunc("GET /api/entries", w.apiList)
	mux.HandleFunc("POST /api/entries", w.apiAdd)
	return mux
}

func (web *web) show(w http.ResponseWriter, r *http.Request) {
	web.render(w, r, http.StatusOK, "")
}

func (web *web) post(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<16)
	status, body, err := web.add(r.Context(), entry{Name: r.FormValue("name"), Text: r.FormValue("text")})
	switch {
	case err != nil:
		web.render(w, r, http.StatusBadGateway, err.Error())
	case status != http.StatusCreated:
		web.render(w, r, status, string(body))
	default:
		http.Redirect(w, r, "/", http.StatusSeeOther)
	}
}

func (web *web) render(w http.ResponseWriter, r *http.Request, status int, problem string) {
	p := page{Title: web.title, Pod: podName(), StoreName: web.store, Problem: problem, MaxName: maxName, MaxText: maxText}
	p.StoreAddress = web.lookup(r.Context())
	list, err := web.list(r.Context())
	if err != nil {
		slog.Warn("store not reached", "store", web.store, "error", err)
		p.Problem = "The store cannot be reached: " + err.Error()
	} else {
		p.Entries, p.StorePod = list.Entries, list.Store
	}
	var html bytes.Buffer
	if err := pageTemplate.Execute(&html, p); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = html.WriteTo(w)
}

func (web *web) apiList(w http.ResponseWriter, r *http.Request) {
	list, err := web.list(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	answer(w, http.StatusOK, struct {
		Web string `json:"web"`
		listing
	}{podName(), list})
}

func (web *web) apiAdd(w http.ResponseWriter, r *http.Request) {
	var e entry
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&e); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	status, body, err := web.add(r.Context(), e)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	if status == http.StatusCreated {
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func (web *web) list(ctx context.Context) (listing, error) {
	var list listing
	status, body, err := web.ask(ctx, http.MethodGet, nil)
	if err != nil {
		return list, err
	}
	if status != http.StatusOK {
		return list, fmt.Errorf("the store answered %d: %s", status, body)
	}
	return list, json.Unmarshal(body, &list)
}

func (web *web) add(ctx context.Context, e entry) (int, []byte, error) {
	e.Via = podName()
	body, err := json.Marshal(e)
	if err != nil {
		return 0, nil, err
	}
	return web.ask(ctx, http.MethodPost, body)
}

func (web *web) ask(ctx context.Context, method string, body []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+web.store+"/entries", bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	res, err := web.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, 4<<20))
	return res.StatusCode, data, err
}

// lookup is the address behind the store's name, for show.
func (web *web) lookup(ctx context.Context) string {
	host, _, err := net.SplitHostPort(web.store)
	if err != nil {
		host = web.store
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil || len(addresses) == 0 {
		return "unknown"
	}
	return addresses[0]
}

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"when": func(t time.Time) string { return t.Format("2 Jan 15:04:05") },
	"hue":  hue,
}).Parse(pageHTML))

// hue gives each pod a colour of its own.
func hue(name string) int {
	sum := 0
	for _, letter := range name {
		sum = (sum*31 + int(letter)) % 360
	}
	return sum
}
