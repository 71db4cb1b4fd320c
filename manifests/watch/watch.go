// Package watch says when something in a set of directories may have changed.
// It is the wall around fsnotify, shared by the directory source and the git
// source; nothing else imports it.
//
// What it says is a hint: it may come without a change, several changes give
// one hint, and when the kernel loses events it hints too. It never says what
// changed: whoever is called looks for himself.
package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Config says what to watch.
type Config struct {
	// Dirs returns the directories to watch, not those below them. It is
	// called again after every event, so that new directories are found;
	// those that do not exist are passed over, and their nearest existing
	// parent is watched for them to appear.
	Dirs func() []string

	// Ignore tells paths whose events mean nothing. Nil ignores none.
	Ignore func(path string) bool

	// Delay is how long events are gathered before one hint is given.
	// Default 20 ms.
	Delay time.Duration

	// Interval is how often a hint is given without any event, for file
	// systems that send none. Default one minute.
	Interval time.Duration

	Logger *slog.Logger
}

const (
	defaultDelay    = 20 * time.Millisecond
	defaultInterval = time.Minute
)

// Run calls changed from its own goroutine until ctx ends, then returns nil.
// It calls it once at the beginning, when everything is being watched, so that
// nothing is missed between a first look and the watch. An error means that
// nothing can be watched at all.
func Run(ctx context.Context, cfg Config, changed func()) error {
	if cfg.Delay <= 0 {
		cfg.Delay = defaultDelay
	}
	if cfg.Interval <= 0 {
		cfg.Interval = defaultInterval
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch directories: %w", err)
	}
	defer w.Close()
	r := runner{cfg: cfg, watcher: w, changed: changed}
	r.hint()
	return r.loop(ctx)
}

type runner struct {
	cfg     Config
	watcher *fsnotify.Watcher
	changed func()
	full    bool // the limit of watches was met and said
}

func (r *runner) loop(ctx context.Context) error {
	every := time.NewTicker(r.cfg.Interval)
	defer every.Stop()
	var gather <-chan time.Time // set while events are gathered
	for {
		select {
		case <-ctx.Done():
			return nil
		case ev, ok := <-r.watcher.Events:
			if !ok {
				return errors.New("watch directories: closed")
			}
			if gather == nil && r.matters(ev) {
				gather = time.After(r.cfg.Delay)
			}
		case err, ok := <-r.watcher.Errors:
			if !ok {
				return errors.New("watch directories: closed")
			}
			r.cfg.Logger.Warn("watching directories lost events; looking again", "err", err)
			if gather == nil {
				gather = time.After(r.cfg.Delay)
			}
		case <-gather:
			gather = nil
			r.hint()
		case <-every.C:
			r.hint()
		}
	}
}

// matters reports whether an event is worth a look. A change of mode alone is:
// it can make a file readable.
func (r *runner) matters(ev fsnotify.Event) bool {
	return r.cfg.Ignore == nil || !r.cfg.Ignore(ev.Name)
}

// hint brings the watches up to date first, so that what happens in a new
// directory after the caller has looked is seen.
func (r *runner) hint() {
	r.sync()
	r.changed()
}

func (r *runner) sync() {
	wanted := map[string]bool{}
	for _, dir := range r.cfg.Dirs() {
		wanted[existing(dir)] = true
	}
	for _, dir := range r.watcher.WatchList() {
		if !wanted[dir] {
			_ = r.watcher.Remove(dir) // gone by itself, perhaps
		}
	}
	for dir := range wanted {
		// Adding again is cheap, and takes over a directory that has been
		// replaced by another of the same name.
		err := r.watcher.Add(dir)
		switch {
		case err == nil || errors.Is(err, os.ErrNotExist):
		case !r.full:
			r.full = true
			r.cfg.Logger.Warn("cannot watch a directory; it is looked at in intervals", "dir", dir, "interval", r.cfg.Interval, "err", err)
		}
	}
}

// existing returns the directory, or the nearest above it that exists.
func existing(dir string) string {
	for {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return dir
		}
		dir = parent
	}
}
