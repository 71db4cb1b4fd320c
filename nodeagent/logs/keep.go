package logs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNoProcess is returned where nobody takes a container's output and its
// process is not known.
var ErrNoProcess = errors.New("process of the container not known")

// Keep makes sure that what a running container writes is taken; pid is its
// first process, 0 if that is not known. A shim that could not write to a
// spool, because the disk was full, never tries again, and the container would
// wait for it for ever: from then on the Manager itself reads what the
// container writes. Nothing happens where the shim does its work, or the
// container has closed its outputs. The caller sees to it that the container's
// pod is not removed meanwhile.
func (m *Manager) Keep(c Container, pid int) error {
	t := m.find(c)
	if t != nil && !t.isLeft() {
		return nil
	}
	pipes, err := pipesOf(c, pid)
	if err != nil || pipes == [2]string{} {
		return err
	}
	if t != nil {
		select {
		case t.kept <- pipes:
		default: // it has been told
		}
		return nil
	}
	return m.keepAnew(c, pipes)
}

// keepAnew goes on with a log that was thought to be complete.
func (m *Manager) keepAnew(c Container, pipes [2]string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir := m.spoolDir(c)
	if file := filepath.Join(dir, containerFile); exists(file) {
		return m.takeUpOne(file, dir) // its shim may write to it yet
	}
	if err := m.prepare(c, dir); err != nil {
		return fmt.Errorf("log of container %s: %w", c.ID, err)
	}
	t, err := m.openTailer(c, dir, false)
	if err != nil {
		return fmt.Errorf("log of container %s: %w", c.ID, err)
	}
	for _, s := range t.spools {
		if s != nil {
			s.closed.Store(true)
		}
	}
	t.pipes = pipes
	t.wake()
	m.startLocked(t)
	return nil
}

// Left tells of pods with a container to whose log nobody adds any more: most
// have ended, the others are for Keep.
func (m *Manager) Left() <-chan string { return m.unwritten }

// tellLeft drops what nobody reads in time.
func (m *Manager) tellLeft(uid string) {
	select {
	case m.unwritten <- uid:
	default:
	}
}

// isLeft reports whether nobody writes to one of the spools.
func (t *tailer) isLeft() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.spools {
		if s != nil && s.closed.Load() {
			return true
		}
	}
	return false
}

// pipesOf are the pipes that are a container's outputs, as the files by which
// its first process knows them; "" for what is none. Its shim, which is its
// parent, has them open too: a pipe that it has not is one of the container's
// own, which is nobody else's to read.
func pipesOf(c Container, pid int) (pipes [2]string, err error) {
	if pid == 0 {
		return pipes, fmt.Errorf("log of container %s: %w", c.ID, ErrNoProcess)
	}
	var names [2]string
	for i := range pipes {
		path := filepath.Join("/proc", strconv.Itoa(pid), "fd", strconv.Itoa(i+1))
		name, err := os.Readlink(path)
		if err == nil && strings.HasPrefix(name, "pipe:") && (i == 0 || name != names[0]) && hasOpen(parentOf(pid), name) {
			pipes[i], names[i] = path, name
		}
	}
	return pipes, nil
}

// parentOf is the number of a process's parent; 0 if there is no such process.
func parentOf(pid int) int {
	stat, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	_, rest, _ := bytes.Cut(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" ")) // its name may have anything in it
	var state string
	var parent int
	_, _ = fmt.Sscan(string(rest), &state, &parent)
	return parent
}

// hasOpen reports whether a process has a file of that name open.
func hasOpen(pid int, name string) bool {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	files, err := os.ReadDir(dir)
	return err == nil && slices.ContainsFunc(files, func(f os.DirEntry) bool {
		target, err := os.Readlink(filepath.Join(dir, f.Name()))
		return err == nil && target == name
	})
}

// openPipe opens a container's pipe for reading, beside its shim, which has it
// open but reads no more.
func openPipe(c Container, path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	// The process that had the number may have ended, and be another now.
	groups, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(path)), "cgroup"))
	if err == nil && !strings.Contains(string(groups), c.ID) {
		err = fmt.Errorf("open %s: it is no process of container %s", path, c.ID)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
