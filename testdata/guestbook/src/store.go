package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

const (
	maxEntries = 1000
	maxName    = 40
	maxText    = 280
)

// entry is a line in the book.
type entry struct {
	Name string    `json:"name"`
	Text string    `json:"text"`
	Time time.Time `json:"time"`
	Via  string    `json:"via"` // the pod that took it
}

// listing is what the store answers.
type listing struct {
	Store   string  `json:"store"`
	Entries []entry `json:"entries"` // the newest first
}

// store keeps entries in memory, and appends them to a file.
type store struct {
	mu      sync.Mutex
	entries []entry
	file    *os.File
}

func openStore(path string) (*store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &store{file: file}
	scan := bufio.NewScanner(file)
	for scan.Scan() {
		var e entry
		if json.Unmarshal(scan.Bytes(), &e) == nil { // a line cut short by a crash is left out
			s.keepLocked(e)
		}
	}
	if err := scan.Err(); err != nil {
		return nil, errors.Join(fmt.Errorf("read store: %w", err), file.Close())
	}
	slog.Info("store opened", "path", path, "entries", len(s.entries))
	return s, nil
}

func (s *store) close() error { return s.file.Close() }

func (s *store) handler(draining *atomic.Bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", healthz(draining))
	mux.HandleFunc("GET /entries", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, s.list()) })
	mux.HandleFunc("POST /entries", func(w http.ResponseWriter, r *http.Request) {
		var e entry
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&e); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if err := e.check(); err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
		e.Time = time.Now().UTC()
		if err := s.add(e); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		answer(w, http.StatusCreated, e)
	})
	return mux
}

func (e *entry) check() error {
	e.Name, e.Text = strings.TrimSpace(e.Name), strings.TrimSpace(e.Text)
	if e.Name == "" {
		e.Name = "Somebody"
	}
	switch {
	case e.Text == "":
		return errors.New("write something first")
	case utf8.RuneCountInString(e.Name) > maxName, utf8.RuneCountInString(e.Text) > maxText:
		return fmt.Errorf("too long: %d characters for the name, %d for the text", maxName, maxText)
	}
	return nil
}

func (s *store) add(e entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.file.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write entry: %w", err)
	}
	s.keepLocked(e)
	return nil
}

func (s *store) keepLocked(e entry) {
	s.entries = append(s.entries, e)
	if extra := len(s.entries) - maxEntries; extra > 0 {
		s.entries = append([]entry(nil), s.entries[extra:]...)
	}
}

func (s *store) list() listing {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := listing{Store: podName(), Entries: make([]entry, 0, len(s.entries))}
	for i := len(s.entries) - 1; i >= 0; i-- {
		l.Entries = append(l.Entries, s.entries[i])
	}
	return l
}

func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}
