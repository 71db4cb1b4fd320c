package logs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Config says where logs are kept, and how much of them.
type Config struct {
	// Dir holds the spools and what is needed to go on after a restart, until
	// the machine is set up anew. On a disk, for spools may become large. Required.
	Dir string
	// LogDir holds the logs, by pod. Default: /var/log/pods.
	LogDir string
	// LinkDir gets a link to each container's log, as the kubelet makes them
	// in /var/log/containers. Default: that, if LogDir is the default too, and
	// otherwise none.
	LinkDir string
	// MaxSize is how large a log file becomes, in bytes. Default: 10 MiB.
	MaxSize int64
	// MaxFiles is how many files a container's log has. Default: 5; at least 2.
	MaxFiles int
	// Written, if set, is told how many bytes of output were taken.
	Written func(bytes int)
	// Logger is required.
	Logger *slog.Logger
}

const (
	defaultLogDir  = "/var/log/pods"
	defaultLinkDir = "/var/log/containers"
)

func (c *Config) validate() error {
	switch {
	case !filepath.IsAbs(c.Dir):
		return fmt.Errorf("logs config: Dir %q is not absolute", c.Dir)
	case c.Logger == nil:
		return errors.New("logs config: Logger is nil")
	case c.MaxFiles == 1, c.MaxFiles < 0:
		return fmt.Errorf("logs config: MaxFiles is %d, must be at least 2", c.MaxFiles)
	case c.MaxSize < 0:
		return fmt.Errorf("logs config: MaxSize is %d", c.MaxSize)
	}
	if c.LogDir == "" {
		c.LogDir = defaultLogDir
	}
	if c.LinkDir == "" && c.LogDir == defaultLogDir {
		c.LinkDir = defaultLinkDir
	}
	if c.MaxSize == 0 {
		c.MaxSize = 10 << 20
	}
	if c.MaxFiles == 0 {
		c.MaxFiles = 5
	}
	if c.Written == nil {
		c.Written = func(int) {}
	}
	return nil
}

// Container names one run of a container.
type Container struct {
	ID        string // of the runtime
	UID       string // of the pod
	Namespace string
	Pod       string
	Name      string
	Attempt   int
	TTY       bool // its outputs are one
}

// Spools are the files that a container's outputs are to be appended to. They
// exist. With a TTY, Stderr is empty.
type Spools struct{ Stdout, Stderr string }

// Manager keeps the logs of a node's containers. Its methods are safe to call
// at once.
type Manager struct {
	cfg     Config
	watcher *watcher
	old     chan struct{} // has room for one: there is something to compress

	unwritten chan string // pods with a spool that was closed

	mu      sync.Mutex
	tailers map[string]*tailer   // by key
	spawn   func(*tailer)        // while Run runs
	waiting map[*tailer]struct{} // opened before
}

// New prepares the directories and takes up what an earlier process left in
// them. Run does the rest.
func New(cfg Config) (*Manager, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make spool directory: %w", err)
	}
	if cfg.LinkDir != "" {
		if err := os.MkdirAll(cfg.LinkDir, 0o755); err != nil {
			return nil, fmt.Errorf("make directory of log links: %w", err)
		}
	}
	w, err := newWatcher()
	if err != nil {
		return nil, err
	}
	m := &Manager{cfg: cfg, watcher: w, old: make(chan struct{}, 1), unwritten: make(chan string, 1024), tailers: map[string]*tailer{}, waiting: map[*tailer]struct{}{}}
	if err := m.takeUp(); err != nil {
		return nil, errors.Join(err, w.f.Close())
	}
	return m, nil
}

// Run turns spools into logs until ctx ends. It runs once.
func (m *Manager) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return m.watcher.run(ctx) })
	g.Go(func() error { return m.compressAll(ctx) })
	m.mu.Lock()
	m.spawn = func(t *tailer) { g.Go(func() error { t.run(ctx); return nil }) }
	for t := range m.waiting {
		m.spawn(t)
	}
	clear(m.waiting)
	m.mu.Unlock()
	<-ctx.Done()
	m.mu.Lock()
	m.spawn = nil
	m.mu.Unlock()
	return g.Wait()
}

// Open makes the spools and the log of a container that is about to start, and
// removes the logs of its runs but this and the one before. The same again is
// no error.
func (m *Manager) Open(c Container) (Spools, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t := m.tailers[c.key()]; t != nil {
		return t.paths(), nil
	}
	dir := m.spoolDir(c)
	if err := m.prepare(c, dir); err != nil {
		return Spools{}, fmt.Errorf("log of container %s: %w", c.ID, err)
	}
	t, err := m.openTailer(c, dir, false)
	if err != nil {
		return Spools{}, fmt.Errorf("log of container %s: %w", c.ID, err)
	}
	m.startLocked(t)
	return t.paths(), nil
}

func (m *Manager) startLocked(t *tailer) {
	m.tailers[t.c.key()] = t
	if m.spawn == nil {
		m.waiting[t] = struct{}{}
		return
	}
	m.spawn(t)
}

// prepare makes what a container's log needs besides the files themselves.
func (m *Manager) prepare(c Container, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make spool directory: %w", err)
	}
	// Who removes the pod finds its logs by this.
	err := os.Symlink(PodDir(m.cfg.LogDir, c), filepath.Join(m.cfg.Dir, c.UID, podLink))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("note log directory: %w", err)
	}
	data, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("note container: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, containerFile), data, 0o600); err != nil {
		return fmt.Errorf("note container: %w", err)
	}
	if err := m.removeRuns(c); err != nil {
		return err
	}
	return m.link(c)
}

// takeUp opens the spools that an earlier process left. Those that cannot be
// read are left alone: their pod's removal takes them away.
func (m *Manager) takeUp() error {
	found, err := filepath.Glob(filepath.Join(m.cfg.Dir, "*", "*", "*", containerFile))
	if err != nil {
		return fmt.Errorf("list spools: %w", err)
	}
	for _, file := range found {
		dir := filepath.Dir(file)
		if err := m.takeUpOne(file, dir); err != nil {
			m.cfg.Logger.Warn("spool not taken up", "dir", dir, "error", err)
		}
	}
	return nil
}

func (m *Manager) takeUpOne(file, dir string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var c Container
	if err := json.Unmarshal(data, &c); err != nil {
		return err
	}
	if m.spoolDir(c) != dir {
		return fmt.Errorf("it is of container %s", c.ID)
	}
	t, err := m.openTailer(c, dir, true)
	if err != nil {
		return err
	}
	t.wake() // for what was written meanwhile
	m.startLocked(t)
	return nil
}

// Discard gives up the log of a container that did not start: its spools are
// removed, unless somebody writes to them after all.
func (m *Manager) Discard(c Container) {
	m.mu.Lock()
	t := m.tailers[c.key()]
	_, waiting := m.waiting[t]
	running := m.spawn != nil
	m.mu.Unlock()
	switch {
	case t == nil:
	case waiting:
		m.discardWaiting(t)
	case running:
		select {
		case t.asked <- struct{}{}:
		case <-t.left:
		}
	}
}

// discardWaiting is Discard before Run has begun with a log.
func (m *Manager) discardWaiting(t *tailer) {
	m.mu.Lock()
	_, waiting := m.waiting[t]
	delete(m.waiting, t)
	m.mu.Unlock()
	if !waiting {
		m.Discard(t.c)
		return
	}
	t.lookForWriters(func(*spool) bool { return true })
	if t.isClosed() {
		t.hasten(false)
		t.run(context.Background())
		return
	}
	t.wake()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.startLocked(t)
}

// finish ends a tailer; one that Run has not begun with is ended here. After
// Run nothing happens.
func (m *Manager) finish(t *tailer, drop bool) {
	m.mu.Lock()
	_, waiting := m.waiting[t]
	delete(m.waiting, t)
	running := m.spawn != nil
	m.mu.Unlock()
	switch {
	case waiting:
		t.hasten(drop)
		t.run(context.Background())
	case running:
		t.hasten(drop)
		<-t.left
	}
}

// RemovePod removes a pod's logs, links and spools. Nothing of the pod may run.
func (m *Manager) RemovePod(uid string) error {
	m.mu.Lock()
	var ending []*tailer
	for _, t := range m.tailers {
		if t.c.UID == uid {
			ending = append(ending, t)
		}
	}
	m.mu.Unlock()
	for _, t := range ending {
		m.finish(t, true)
	}
	return m.removeFiles(uid)
}

// Pods lists the pods that have logs or spools of this node, by UID.
func (m *Manager) Pods() ([]string, error) {
	entries, err := os.ReadDir(m.cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("list spools: %w", err)
	}
	var uids []string
	for _, e := range entries {
		uids = append(uids, e.Name())
	}
	return uids, nil
}

func (m *Manager) find(c Container) *tailer {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tailers[c.key()]
}

// forget is called by a tailer that has ended.
func (m *Manager) forget(t *tailer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tailers[t.c.key()] == t {
		delete(m.tailers, t.c.key())
	}
}

// compressAll compresses what was rotated, some time after.
func (m *Manager) compressAll(ctx context.Context) error {
	var later <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.old:
			if later == nil {
				later = time.After(compressDelay)
			}
			continue
		case <-later:
			later = nil
		}
		again := false
		for _, live := range m.rotatedLogs() {
			young, err := compressOld(ctx, live, time.Now())
			if err != nil && ctx.Err() == nil {
				m.cfg.Logger.Warn("old log not compressed", "log", live, "error", err)
			}
			again = again || young
		}
		if again {
			later = time.After(compressDelay)
		}
	}
}

// rotatedLogs are the live files of the logs that were rotated by this process.
func (m *Manager) rotatedLogs() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var live []string
	for _, t := range m.tailers {
		if t.rotations.Load() > 0 {
			live = append(live, t.live)
		}
	}
	return live
}

// counter of rotations, which readers follow.
type counter = atomic.Int64
