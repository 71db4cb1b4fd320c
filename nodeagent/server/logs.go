package server

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/evenkeel/evenkeel/nodeagent/logs"
)

// serveLogs writes a container's log, with Kubernetes' PodLogOptions in the
// query.
func (s *Server) serveLogs(w http.ResponseWriter, r *http.Request) {
	options, previous, err := logOptions(r.URL.Query(), time.Now())
	if err != nil {
		refuse(w, err)
		return
	}
	run, err := s.cfg.Pods.Run(r.PathValue("namespace"), r.PathValue("pod"), "", r.PathValue("container"), previous)
	if err != nil {
		refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	out := &flushing{w: w, response: http.NewResponseController(w), each: options.Follow}
	err = s.cfg.Logs.Read(r.Context(), run.Log, options, out, out)
	switch {
	case err == nil:
	case !out.begun && errors.Is(err, logs.ErrNoLog):
		refuse(w, fmt.Errorf("log of container %q in pod %q is gone: %w", run.Log.Name, run.Log.Pod, ErrNotFound))
	case !out.begun:
		s.fail(w, err)
	case r.Context().Err() == nil && !out.broken:
		s.cfg.Logger.Warn("log not read to its end", "container", run.Log.ID, "error", err)
	}
}

// logOptions reads a query as the kubelet does. Pure.
func logOptions(query url.Values, now time.Time) (o logs.Options, previous bool, err error) {
	q := logQuery{values: query}
	o = logs.Options{Tail: -1, Follow: q.flag("follow"), Timestamps: q.flag("timestamps"), Stream: q.stream()}
	previous = q.flag("previous")
	if lines, ok := q.number("tailLines", 0); ok {
		o.Tail = lines
	}
	if limit, ok := q.number("limitBytes", 1); ok {
		o.LimitBytes = limit
	}
	seconds, bySeconds := q.number("sinceSeconds", 1)
	if bySeconds {
		o.Since = now.Add(-time.Duration(seconds) * time.Second)
	}
	if at := query.Get("sinceTime"); at != "" {
		if bySeconds {
			q.fail("sinceSeconds", "at most one of sinceTime and sinceSeconds may be given")
		}
		if o.Since, err = time.Parse(time.RFC3339Nano, at); err != nil {
			q.fail("sinceTime", "not a time as in RFC 3339")
		}
	}
	if o.Stream != "" && o.Tail >= 0 {
		q.fail("tailLines", "not together with stream")
	}
	return o, previous, q.err
}

// logQuery reads values and remembers the first error.
type logQuery struct {
	values url.Values
	err    error
}

func (q *logQuery) fail(name, why string) {
	if q.err == nil {
		q.err = fmt.Errorf("query %s=%q: %s", name, q.values.Get(name), why)
	}
}

func (q *logQuery) flag(name string) bool {
	text := q.values.Get(name)
	if text == "" {
		return false
	}
	value, err := strconv.ParseBool(text)
	if err != nil {
		q.fail(name, "neither true nor false")
	}
	return value
}

func (q *logQuery) number(name string, least int64) (int64, bool) {
	text := q.values.Get(name)
	if text == "" {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < least {
		q.fail(name, fmt.Sprintf("not a number from %d on", least))
	}
	return n, true
}

func (q *logQuery) stream() logs.Stream {
	switch text := q.values.Get("stream"); text {
	case "", "All":
	case "Stdout":
		return logs.Stdout
	case "Stderr":
		return logs.Stderr
	default:
		q.fail("stream", "none of All, Stdout and Stderr")
	}
	return ""
}

// flushing sends what is written at once, if each piece is waited for.
type flushing struct {
	w        io.Writer
	response *http.ResponseController
	each     bool
	begun    bool
	broken   bool // the client is gone
}

func (f *flushing) Write(p []byte) (int, error) {
	f.begun = true
	n, err := f.w.Write(p)
	if err == nil && f.each {
		err = f.response.Flush()
	}
	f.broken = f.broken || err != nil
	return n, err
}
