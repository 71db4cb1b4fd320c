package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-cmp/cmp"
)

// network is what a network namespace holds, by the command that shows it.
type network map[string]string

// network shows the host's network as it is now.
func (h *host) network() network {
	h.t.Helper()
	out := network{}
	for _, command := range []string{
		"ip -br link", "ip -br -4 address", "ip -4 route show table all", "ip -4 rule", "nft list ruleset",
	} {
		args := strings.Fields(command)
		text, err := h.run(h.ns, args[0], args[1:]...)
		if err != nil {
			h.t.Fatalf("%s: %v\n%s", command, err, text)
		}
		out[command] = text
	}
	return out
}

// nothingLeft checks that the machine holds nothing that was made for the
// host's node.
func (h *host) nothingLeft() {
	h.t.Helper()
	if diff := cmp.Diff(h.before, h.network()); diff != "" {
		h.t.Errorf("network of %s (-before +after):\n%s", h.name, diff)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		h.t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, h.dir+"/") {
			h.t.Errorf("mount left: %s", line)
		}
	}
	for _, dir := range []string{"d", "r", "l"} {
		_ = filepath.WalkDir(filepath.Join(h.dir, dir), func(path string, _ fs.DirEntry, err error) error {
			if err == nil {
				h.t.Errorf("file left: %s", path)
			}
			return nil
		})
	}
	h.noProcessLeft()
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(d.Name(), h.name) {
			h.t.Errorf("cgroup left: %s", path)
		}
		return nil
	})
}

// noProcessLeft waits a moment for what is ending.
func (h *host) noProcessLeft() {
	h.t.Helper()
	eventually(h.t, patience, "end of all processes of "+h.name, func() error {
		for _, pid := range pids() {
			line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			cgroup, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
			if strings.Contains(string(line), h.dir+"/") || strings.Contains(string(cgroup), "/"+h.name) {
				return fmt.Errorf("process %d %s", pid, strings.ReplaceAll(string(line), "\x00", " "))
			}
		}
		return nil
	})
}
