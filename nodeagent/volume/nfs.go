package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// What waits for a server is done by a process of its own, which can be given
// up: a call to the kernel cannot. Nothing here looks at a path below a mount
// of a server in the agent itself.
const (
	nfsMountTime   = 30 * time.Second
	nfsUnmountTime = 10 * time.Second
	nfsAnswerTime  = 3 * time.Second
	// killTime is what a killed program has to end.
	killTime = 2 * time.Second
)

// nfsShare is what is mounted from an NFS server.
type nfsShare struct {
	server, path string
	readOnly     bool
	options      []string // of a persistent volume
}

// args are those of mount(8), as the kubelet has them. Pure.
func (s nfsShare) args(dir string) []string {
	server := s.server
	if strings.Contains(server, ":") {
		server = "[" + server + "]"
	}
	options := s.options
	if s.readOnly {
		options = append(append([]string(nil), options...), "ro")
	}
	args := []string{"-t", "nfs"}
	if len(options) > 0 {
		args = append(args, "-o", strings.Join(options, ","))
	}
	return append(args, server+":"+s.path, dir)
}

func shareOf(source *corev1.NFSVolumeSource) nfsShare {
	return nfsShare{server: source.Server, path: source.Path, readOnly: source.ReadOnly}
}

// mountNFS mounts a share on a directory that it makes, unless one is mounted
// there.
func mountNFS(ctx context.Context, dir string, share nfsShare) error {
	if strings.HasPrefix(share.server, "-") { // mount(8) would take it for an option, such as another fstab
		return fmt.Errorf("nfs %s:%s: the name of a server does not begin with -", share.server, share.path)
	}
	points, err := mountPoints(dir)
	if err != nil || len(points) > 0 {
		return err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	output, err := command(ctx, nfsMountTime, "mount", share.args(dir)...)
	if err == nil {
		return nil
	}
	return errors.Join(fmt.Errorf("nfs %s:%s: %s%w", share.server, share.path, nfsAdvice(output, err, hasNFSHelper()), err), unmountBelow(dir))
}

// command runs a program for at most some time. Its output is the error. One
// that the kernel does not even let end when it is killed, because it waits for
// a server that has its request, is left behind.
func command(ctx context.Context, limit time.Duration, name string, args ...string) (output string, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = killTime / 2 // for children that hold its output
	var out []byte
	ended := make(chan error, 1)
	go func() {
		var err error
		out, err = cmd.CombinedOutput()
		ended <- err
	}()
	select {
	case err = <-ended:
	case <-ctx.Done():
		select {
		case err = <-ended:
		case <-time.After(killTime):
			return "", fmt.Errorf("%s: not done after %v, and cannot be killed: %w", name, limit, context.Cause(ctx))
		}
	}
	output = strings.TrimSpace(string(out))
	switch {
	case err == nil:
		return output, nil
	case ctx.Err() != nil:
		return output, fmt.Errorf("%s: not done after %v: %w", name, limit, context.Cause(ctx))
	}
	return output, fmt.Errorf("%s: %w: %s", name, err, strings.Join(strings.Fields(output), " "))
}

// hasNFSHelper reports whether the program is there that mount(8) needs for
// NFS, which it looks for in these places alone.
func hasNFSHelper() bool {
	for _, path := range []string{"/sbin/mount.nfs", "/usr/sbin/mount.nfs"} {
		if _, err := os.Stat(path); err == nil {
			return true
		}
	}
	return false
}

// nfsAdvice says what to do about a share that was not mounted. Pure.
func nfsAdvice(output string, err error, helper bool) string {
	says := func(text string) bool { return strings.Contains(strings.ToLower(output), text) }
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return "install mount(8) on this node: "
	case !helper:
		return "mount.nfs is not on this node: install nfs-common (Debian, Ubuntu) or nfs-utils (Fedora, Alpine): "
	case says("no such device"), says("unknown filesystem type"):
		return "this node's kernel has no NFS client: load the module with modprobe nfs: "
	case says("access denied"), says("operation not permitted"):
		return "the server does not give it to this node: look at its exports: "
	case says("no such file or directory"):
		return "the server has no such path: "
	case errors.Is(err, context.DeadlineExceeded), says("timed out"), says("connection refused"), says("no route to host"):
		return "the server does not answer: "
	}
	return ""
}

// unmountNFS ends a mount of a server, which may be dead: then by force, and
// what holds the mount keeps it to itself.
func unmountNFS(point string, limit time.Duration) error {
	ctx := context.Background() // what is mounted must go
	_, err := command(ctx, limit, "umount", point)
	if err == nil {
		return nil
	}
	_, forced := command(ctx, limit, "umount", "-f", "-l", point)
	if forced == nil {
		return nil
	}
	return errors.Join(err, forced)
}

// Answers reports whether the server of a volume answers, without which a look
// at it may take for ever. It returns within a few seconds.
func (m *Manager) Answers(ctx context.Context, podUID, volume string) error {
	if _, err := command(ctx, nfsAnswerTime, "stat", "-f", m.Dir(podUID, volume)); err != nil {
		return fmt.Errorf("volume %s: its server does not answer: %w", volume, err)
	}
	return nil
}
