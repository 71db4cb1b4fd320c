package logs

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const (
	containerFile = "container.json"
	recordFile    = "record"
	podLink       = "logs"
)

// PodDir is where the logs of a pod's containers lie, as the kubelet names it.
func PodDir(logDir string, c Container) string {
	return filepath.Join(logDir, c.Namespace+"_"+c.Pod+"_"+c.UID)
}

func (c Container) key() string { return c.UID + "/" + c.Name + "/" + strconv.Itoa(c.Attempt) }

func (m *Manager) spoolDir(c Container) string {
	return filepath.Join(m.cfg.Dir, c.UID, c.Name, strconv.Itoa(c.Attempt))
}

// Path is the live log file of a container's run.
func (m *Manager) Path(c Container) string {
	return filepath.Join(PodDir(m.cfg.LogDir, c), c.Name, strconv.Itoa(c.Attempt)+".log")
}

// removeRuns removes the logs of a container's runs but the given one and the
// one before it, which `kubectl logs --previous` shows.
func (m *Manager) removeRuns(c Container) error {
	entries, err := os.ReadDir(filepath.Dir(m.Path(c)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list old logs: %w", err)
	}
	for _, e := range entries {
		number, _, _ := strings.Cut(e.Name(), ".")
		attempt, err := strconv.Atoi(number)
		if err != nil || attempt >= c.Attempt-1 {
			continue
		}
		if err := os.Remove(filepath.Join(filepath.Dir(m.Path(c)), e.Name())); err != nil {
			return fmt.Errorf("remove old log: %w", err)
		}
	}
	return m.removeLinks(PodDir(m.cfg.LogDir, c), func(target string) bool {
		return filepath.Dir(target) == filepath.Dir(m.Path(c)) && !exists(target)
	})
}

// maxLinkName leaves room for ".log" in a file name, as the kubelet does.
const maxLinkName = 251

// link makes the link that log shippers look for. They know a container's ID
// by its 64 hexadecimal digits, so ours is told by its hash.
func (m *Manager) link(c Container) error {
	if m.cfg.LinkDir == "" {
		return nil
	}
	sum := sha256.Sum256([]byte(c.ID))
	name := c.Pod + "_" + c.Namespace + "_" + c.Name + "-" + hex.EncodeToString(sum[:])
	name = name[:min(len(name), maxLinkName)] + ".log"
	err := os.Symlink(m.Path(c), filepath.Join(m.cfg.LinkDir, name))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("link log: %w", err)
	}
	return nil
}

// removeLinks removes the links into a pod's directory whose target is chosen.
func (m *Manager) removeLinks(podDir string, chosen func(target string) bool) error {
	if m.cfg.LinkDir == "" {
		return nil
	}
	parts := strings.SplitN(filepath.Base(podDir), "_", 3)
	if len(parts) < 3 {
		return nil
	}
	entries, err := os.ReadDir(m.cfg.LinkDir)
	if err != nil {
		return fmt.Errorf("list log links: %w", err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), parts[1]+"_"+parts[0]+"_") {
			continue
		}
		path := filepath.Join(m.cfg.LinkDir, e.Name())
		target, err := os.Readlink(path)
		if err != nil || !strings.HasPrefix(target, podDir+"/") || !chosen(target) {
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove log link: %w", err)
		}
	}
	return nil
}

// removeFiles removes what is left of a pod; what tells where it is, last.
func (m *Manager) removeFiles(uid string) error {
	dir := filepath.Join(m.cfg.Dir, uid)
	podDir, err := os.Readlink(filepath.Join(dir, podLink))
	if errors.Is(err, fs.ErrNotExist) {
		err = os.RemoveAll(dir)
	} else if err == nil {
		err = errors.Join(m.removeLinks(podDir, func(string) bool { return true }), os.RemoveAll(podDir))
		if err == nil {
			err = os.RemoveAll(dir)
		}
	}
	if err != nil {
		return fmt.Errorf("remove logs of pod %s: %w", uid, err)
	}
	return nil
}

// Usage is what a pod's logs and spools take of the disk.
func (m *Manager) Usage(uid string) (bytes, inodes int64) {
	dir := filepath.Join(m.cfg.Dir, uid)
	bytes, inodes = diskUsage(dir)
	if podDir, err := os.Readlink(filepath.Join(dir, podLink)); err == nil {
		b, i := diskUsage(podDir)
		bytes, inodes = bytes+b, inodes+i
	}
	return bytes, inodes
}

// ContainerUsage is what the logs of all runs of a container take of the disk.
func (m *Manager) ContainerUsage(c Container) (bytes, inodes int64) {
	b1, i1 := diskUsage(filepath.Dir(m.Path(c)))
	b2, i2 := diskUsage(filepath.Join(m.cfg.Dir, c.UID, c.Name))
	return b1 + b2, i1 + i2
}

// diskUsage adds up the blocks of what is below a directory. What cannot be
// read, or goes meanwhile, takes nothing.
func diskUsage(dir string) (bytes, inodes int64) {
	const block = 512 // whatever the file system's own is (stat(2))
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			bytes += st.Blocks * block
			inodes++
		}
		return nil
	})
	return bytes, inodes
}
