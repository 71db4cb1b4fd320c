package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"

	"github.com/evenkeel/evenkeel/manifests/watch"
)

// imageLoader imports the archives of a directory, once each, and again when
// one is replaced.
type imageLoader struct {
	dir     string
	state   string // file that remembers what was imported
	runtime rt.Runtime
	logger  *slog.Logger
	changed chan<- struct{} // is sent to when there are more
	loaded  chan<- struct{} // is closed when all that was there at first is loaded
}

// archive is one file as it was imported.
type archive struct {
	Size, Modified int64
	Refs           []string
}

func isArchive(name string) bool {
	if strings.HasPrefix(name, ".") {
		return false
	}
	for _, suffix := range []string{".tar", ".tar.gz", ".tgz"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

// run imports what is there and what appears until ctx ends.
func (l *imageLoader) run(ctx context.Context) error {
	known := l.remembered()
	l.scan(ctx, known)
	close(l.loaded)
	hints := make(chan struct{}, 1)
	hint := func() {
		select {
		case hints <- struct{}{}:
		default:
		}
	}
	watched := make(chan error, 1)
	go func() {
		watched <- watch.Run(ctx, watch.Config{Dirs: func() []string { return []string{l.dir} }, Logger: l.logger}, hint)
	}()
	hint()
	for {
		select {
		case err := <-watched:
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("watch --images %s: %w", l.dir, err)
		case <-hints:
			l.scan(ctx, known)
		}
	}
}

// scan imports what is new. A file that cannot be imported, as one that is
// still being copied, is tried again when it has changed.
func (l *imageLoader) scan(ctx context.Context, known map[string]archive) {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		l.logger.Warn("images not loaded", "dir", l.dir, "error", err)
		return
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || !isArchive(entry.Name()) {
			continue
		}
		now := archive{Size: info.Size(), Modified: info.ModTime().UnixNano()}
		before, seen := known[entry.Name()]
		if seen && before.Size == now.Size && before.Modified == now.Modified && l.present(ctx, before.Refs) {
			continue
		}
		path := filepath.Join(l.dir, entry.Name())
		if now.Refs, err = l.runtime.Import(ctx, path); err != nil {
			if ctx.Err() == nil {
				l.logger.Warn("image archive not loaded", "file", path, "error", err)
			}
			continue
		}
		known[entry.Name()] = now
		l.logger.Info("images loaded", "file", path, "images", now.Refs)
		l.remember(known)
		select {
		case l.changed <- struct{}{}:
		default:
		}
	}
}

func (l *imageLoader) present(ctx context.Context, refs []string) bool {
	for _, ref := range refs {
		if _, err := l.runtime.Image(ctx, ref); err != nil {
			return false
		}
	}
	return true
}

func (l *imageLoader) remembered() map[string]archive {
	known := map[string]archive{}
	data, err := os.ReadFile(l.state)
	if err == nil {
		err = json.Unmarshal(data, &known)
	}
	if err != nil && !os.IsNotExist(err) {
		l.logger.Warn("loaded images forgotten; they are loaded again", "file", l.state, "error", err)
		return map[string]archive{}
	}
	return known
}

// remember only spares work: losing it costs one more import.
func (l *imageLoader) remember(known map[string]archive) {
	data, err := json.Marshal(known)
	if err == nil {
		err = os.WriteFile(l.state+".new", data, fs.FileMode(0o600))
	}
	if err == nil {
		err = os.Rename(l.state+".new", l.state)
	}
	if err != nil {
		l.logger.Warn("loaded images not remembered", "file", l.state, "error", err)
	}
}
