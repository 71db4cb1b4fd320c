package containerd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/template"
	"time"

	"github.com/containerd/containerd/v2/client"
)

// SystemAddress is where a machine's own containerd listens.
const SystemAddress = "/run/containerd/containerd.sock"

// MissingError says that a program is not installed, and what installs it.
type MissingError struct{ Program, Package string }

func (e *MissingError) Error() string {
	return fmt.Sprintf("%s is not installed: apt-get install -y %s", e.Program, e.Package)
}

// Detect asks the containerd at a socket for its version; the error wraps
// runtime.ErrUnavailable when it does not answer.
func Detect(ctx context.Context, address string) (version string, err error) {
	if _, err := os.Stat(address); err != nil {
		return "", unavailable("find containerd's socket", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	c, err := client.New(address)
	if err != nil {
		return "", unavailable("connect to containerd at "+address, err)
	}
	defer c.Close()
	v, err := c.Version(ctx)
	if err != nil {
		return "", unavailable("ask containerd at "+address, err)
	}
	return shortVersion(v.Version), nil
}

// PrivateConfig says where a private containerd lives.
type PrivateConfig struct {
	Dir    string // its configuration, log, root and state; absolute
	Logger *slog.Logger
}

// StartPrivate makes sure that a containerd of our own answers, and returns
// its socket. It runs in a session of its own: neither our end nor Ctrl-C
// reaches it or its containers. One that a former call started is taken over.
// A program that is not installed is a *MissingError.
func StartPrivate(ctx context.Context, cfg PrivateConfig) (address string, err error) {
	if !filepath.IsAbs(cfg.Dir) || cfg.Logger == nil {
		return "", errors.New("private containerd: Dir must be absolute and Logger given")
	}
	p := privateIn(cfg.Dir)
	if version, err := Detect(ctx, p.Socket); err == nil {
		cfg.Logger.Info("private containerd taken over", "address", p.Socket, "version", version)
		return p.Socket, nil
	}
	if err := requirePrograms(); err != nil {
		return "", err
	}
	if err := p.stop(ctx); err != nil { // one that runs but does not answer
		return "", err
	}
	if err := p.writeConfig(); err != nil {
		return "", err
	}
	if err := p.start(ctx); err != nil {
		return "", err
	}
	cfg.Logger.Info("private containerd started", "address", p.Socket, "dir", cfg.Dir)
	return p.Socket, nil
}

// StopPrivate ends the containerd that StartPrivate started in a directory,
// and removes what it kept there. Its containers must have been cleaned up
// before. Nil if there is none.
func StopPrivate(ctx context.Context, dir string) error {
	p := privateIn(dir)
	if err := p.stop(ctx); err != nil {
		return err
	}
	if err := unmount(func(point string) bool { return strings.HasPrefix(point, dir+"/") }); err != nil {
		return err
	}
	for _, path := range []string{p.Root, p.State, p.Socket, p.Socket + ".ttrpc", p.config, p.pidFile, p.log} {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("remove private containerd: %w", err)
		}
	}
	if filepath.Dir(p.Socket) != dir {
		_ = os.Remove(filepath.Dir(p.Socket))
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) {
		return fmt.Errorf("remove private containerd: %w", err)
	}
	return nil
}

// PrivateState is the state directory of the containerd that StartPrivate
// starts in a directory.
func PrivateState(dir string) string { return privateIn(dir).State }

func requirePrograms() error {
	for _, m := range []MissingError{
		{"containerd", "containerd"}, {"containerd-shim-runc-v2", "containerd"}, {"runc", "runc"},
	} {
		if _, err := exec.LookPath(m.Program); err != nil {
			return &m
		}
	}
	return nil
}

// private is where the parts of a private containerd are.
type private struct {
	Root, State, Socket string
	config, pidFile     string
	log                 string
}

// maxSocketPath is what fits into the kernel's 108 bytes for a socket's path
// with the ".ttrpc" that containerd adds for its second one.
const maxSocketPath = 100

func privateIn(dir string) private {
	p := private{
		Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state"),
		Socket: filepath.Join(dir, "containerd.sock"), config: filepath.Join(dir, "config.toml"),
		pidFile: filepath.Join(dir, "containerd.pid"), log: filepath.Join(dir, "containerd.log"),
	}
	if len(p.Socket) > maxSocketPath {
		sum := sha256.Sum256([]byte(dir))
		p.Socket = filepath.Join("/run", "evenkeel-"+hex.EncodeToString(sum[:6]), "containerd.sock")
	}
	return p
}

// The plugins left out are those that nobody here uses; "opt" would make a
// directory outside of ours.
var configTemplate = template.Must(template.New("config").Parse(`version = 2
root = {{printf "%q" .Root}}
state = {{printf "%q" .State}}
oom_score = 0
disabled_plugins = [
  "io.containerd.grpc.v1.cri",
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]

[grpc]
  address = {{printf "%q" .Socket}}
`))

func (p private) writeConfig() error {
	for _, dir := range []string{filepath.Dir(p.config), filepath.Dir(p.Socket)} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return fmt.Errorf("make private containerd's directory: %w", err)
		}
	}
	var text strings.Builder
	if err := configTemplate.Execute(&text, p); err != nil {
		return fmt.Errorf("write private containerd's configuration: %w", err)
	}
	if err := os.WriteFile(p.config, []byte(text.String()), 0o600); err != nil {
		return fmt.Errorf("write private containerd's configuration: %w", err)
	}
	return nil
}

// start runs containerd and waits until it answers.
func (p private) start(ctx context.Context) error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open private containerd's log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command("containerd", "--config", p.config)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start private containerd: %w", err)
	}
	if err := os.WriteFile(p.pidFile, []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		return errors.Join(fmt.Errorf("write private containerd's pid: %w", err), cmd.Process.Kill(), cmd.Wait())
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }() // reaps it when it ends, which may be after us
	return p.await(ctx, exited)
}

func (p private) await(ctx context.Context, exited <-chan error) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		if _, err := Detect(ctx, p.Socket); err == nil {
			return nil
		}
		select {
		case err := <-exited:
			return fmt.Errorf("private containerd ended at once (%w); the end of its log %s:\n%s", err, p.log, p.tail())
		default:
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return unavailable("wait for private containerd, see "+p.log, err)
		}
	}
}

func (p private) tail() string {
	data, _ := os.ReadFile(p.log)
	if len(data) > 2000 {
		data = data[len(data)-2000:]
	}
	return strings.TrimSpace(string(data))
}

// stop ends the containerd with our configuration, and waits until it has let go
// of its files.
func (p private) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for _, running := range p.running() {
		if err := running.end(ctx); err != nil {
			return fmt.Errorf("stop private containerd (pid %d): %w", running.pid, err)
		}
	}
	return nil
}

// running is the containerd of the pid file, if that process is it, and
// whichever else has our configuration: an agent that was killed as it started
// one has not written its pid.
func (p private) running() []process {
	var out []process
	data, _ := os.ReadFile(p.pidFile)
	named, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if found := p.runs(named); err == nil && found.lives() {
		out = append(out, found)
	}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == named || !p.isIn(e.Name()) {
			continue
		}
		if found := processOf(pid); found.lives() {
			out = append(out, found)
		}
	}
	return out
}

// isIn reports whether a process, by its directory in /proc, is a containerd
// with our configuration.
func (p private) isIn(pid string) bool {
	cmdline, _ := os.ReadFile("/proc/" + pid + "/cmdline")
	name, _ := os.ReadFile("/proc/" + pid + "/comm")
	return string(name) == "containerd\n" && strings.Contains(string(cmdline), p.config+"\x00")
}

// end ends a process, by force after the context, and waits until it has let go
// of its files.
func (p process) end(ctx context.Context) error {
	for signal := syscall.SIGTERM; p.lives(); {
		if err := syscall.Kill(p.pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			if signal == syscall.SIGKILL {
				return err
			}
			signal = syscall.SIGKILL
			var more context.CancelFunc
			ctx, more = context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer more()
		}
	}
	return nil
}

// runs is a process if it is the containerd with our configuration, and not a
// later one with its pid. A containerd that is about to end has no command line
// any more, and might be ours.
func (p private) runs(pid int) process {
	found := processOf(pid)
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	ending := len(cmdline) == 0 && string(name) == "containerd\n"
	if err != nil || !ending && !strings.Contains(string(cmdline), p.config+"\x00") {
		return process{}
	}
	return found
}
