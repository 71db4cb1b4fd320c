package containerd

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"golang.org/x/sys/unix"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// selinuxPolicy is what a machine's SELinux policy labels containers with; nil
// on a machine without.
type selinuxPolicy struct{ process, file label }

// label is an SELinux context: user:role:type:level.
type label [4]string

func parseLabel(s string) (l label, ok bool) {
	parts := strings.SplitN(s, ":", len(l))
	copy(l[:], parts)
	return l, len(parts) == len(l)
}

func (l label) String() string { return strings.Join(l[:], ":") }

// readSELinux reads the policy below a root directory. A policy that says
// nothing of containers is none.
func readSELinux(root string) *selinuxPolicy {
	var stat unix.Statfs_t
	if unix.Statfs(filepath.Join(root, "sys/fs/selinux"), &stat) != nil || stat.Type != unix.SELINUX_MAGIC {
		return nil
	}
	config, _ := os.ReadFile(filepath.Join(root, "etc/selinux/config"))
	policy := cmp.Or(settingsIn(config)["SELINUXTYPE"], "targeted")
	contexts, err := os.ReadFile(filepath.Join(root, "etc/selinux", policy, "contexts/lxc_contexts"))
	if err != nil {
		return nil
	}
	return parsePolicy(contexts)
}

// parsePolicy reads a policy's lxc_contexts. Pure.
func parsePolicy(contexts []byte) *selinuxPolicy {
	found := settingsIn(contexts)
	process, ok1 := parseLabel(found["process"])
	file, ok2 := parseLabel(found["file"])
	if !ok1 || !ok2 {
		return nil
	}
	return &selinuxPolicy{process, file}
}

// settingsIn reads lines of name = value, which may be quoted.
func settingsIn(text []byte) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(line, "=")
		if name = strings.TrimSpace(name); ok && !strings.HasPrefix(name, "#") {
			out[name] = strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return out
}

// labelsOf are the labels of a container's processes and of its files; "" on a
// machine without SELinux, and where its pod asks for none. A privileged
// container has the machine's, but its files are labelled. Pure.
func labelsOf(sec rt.Security, pod string, policy *selinuxPolicy) (process, file string) {
	if policy == nil || sec.SELinux == nil {
		return "", ""
	}
	asked := *sec.SELinux
	level := cmp.Or(asked.Level, levelOf(pod))
	p := label{
		cmp.Or(asked.User, policy.process[0]), cmp.Or(asked.Role, policy.process[1]), cmp.Or(asked.Type, policy.process[2]), level,
	}
	f := label{cmp.Or(asked.User, policy.file[0]), policy.file[1], policy.file[2], level}
	if sec.Privileged {
		return "", f.String()
	}
	return p.String(), f.String()
}

// levelOf is the level of a pod that asks for none: two categories of its own,
// the same for all of its containers and their restarts.
func levelOf(pod string) string {
	const categories = 1024
	h := fnv.New32a()
	h.Write([]byte(pod))
	a, b := h.Sum32()%categories, h.Sum32()/categories%(categories-1)
	if b >= a {
		b++
	}
	return fmt.Sprintf("s0:c%d,c%d", min(a, b), max(a, b))
}

// labelled has an overlay label what it shows.
func labelled(mounts []mount.Mount, file string) []mount.Mount {
	if file == "" {
		return mounts
	}
	out := slices.Clone(mounts)
	for i, m := range out {
		if m.Type == "overlay" {
			out[i].Options = append(slices.Clone(m.Options), fmt.Sprintf("context=%q", file))
		}
	}
	return out
}

// relabel gives what a container mounts its label, but for what is not the
// pod's own.
func relabel(mounts []rt.Mount, file string) error {
	if file == "" {
		return nil
	}
	for _, m := range mounts {
		if m.KeepLabel {
			continue
		}
		if err := relabelAll(m.Source, file); err != nil {
			return fmt.Errorf("label %s as %s: %w", m.Source, file, err)
		}
	}
	return nil
}

// relabelAll labels a file, or a directory and all below it. Links are not
// followed, and a file system without labels has none.
func relabelAll(path, file string) error {
	root, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	return filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = unix.Lsetxattr(path, "security.selinux", []byte(file), 0)
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTSUP) {
			return nil
		}
		return err
	})
}
