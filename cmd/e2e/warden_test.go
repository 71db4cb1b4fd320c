package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// guard runs this program again, to run the tests, and returns its exit code.
// Whatever of the tests' processes loses its parent becomes a child of this
// one and is waited for, so that none is left behind as a zombie where process
// 1 does not reap, and what a test leaves, as when it panics, is removed.
func guard() int {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fail("become subreaper", err)
	}
	base, err := os.MkdirTemp("/tmp", "ek") // short: sockets lie below it
	if err != nil {
		return fail("make directory", err)
	}
	if err := os.Chmod(base, 0o755); err != nil { // pods of other users read below it
		return fail("make directory", err)
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	child, err := os.StartProcess("/proc/self/exe", os.Args, &os.ProcAttr{
		Env: append(os.Environ(), baseEnv+"="+base), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
	})
	if err != nil {
		return fail("run tests", err)
	}
	go func() {
		for s := range signals {
			_ = child.Signal(s)
		}
	}()
	code := reapUntil(child.Pid)
	if left := sweep(base); len(left) > 0 {
		fmt.Fprintf(os.Stderr, "e2e: the tests left behind, and it was removed now:\n  %s\n", strings.Join(left, "\n  "))
		code = max(code, 1)
	}
	return code
}

func fail(what string, err error) int {
	fmt.Fprintf(os.Stderr, "e2e: %s: %v\n", what, err)
	return 1
}

// reapUntil waits for children until one of them ends; it returns its exit
// code, or 1 if there is no such child.
func reapUntil(pid int) int {
	for {
		var status syscall.WaitStatus
		ended, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return 1
		case ended == pid && status.Signaled():
			return 128 + int(status.Signal())
		case ended == pid:
			return status.ExitStatus()
		}
	}
}

// sweep removes what is left below base and of its processes, and tells what
// that was.
func sweep(base string) []string {
	var left []string
	downs, _ := filepath.Glob(filepath.Join(base, "*", "*", downFile))
	for _, file := range downs {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		left = append(left, "node in "+filepath.Dir(file))
		args := strings.Split(string(text), "\n")
		endPrograms(filepath.Dir(file))
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			left = append(left, fmt.Sprintf("%v: %s", err, out))
		}
	}
	for _, pid := range children(os.Getpid()) {
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if syscall.Kill(pid, syscall.SIGKILL) == nil && len(name) > 0 {
			left = append(left, fmt.Sprintf("process %d %s", pid, strings.ReplaceAll(string(name), "\x00", " ")))
		}
		_, _ = syscall.Wait4(pid, nil, 0, nil)
	}
	if err := os.RemoveAll(base); err != nil {
		left = append(left, err.Error())
	}
	return left
}

// endPrograms kills our programs that work on a host's directory: `down` must
// be alone.
func endPrograms(dir string) {
	for _, pid := range children(os.Getpid()) {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		args := strings.Split(string(line), "\x00")
		if slices.Contains([]string{"nodeagent", "proxy", "reconcile"}, filepath.Base(args[0])) && strings.Contains(string(line), dir+"/") {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			_, _ = syscall.Wait4(pid, nil, 0, nil)
		}
	}
}

// children are the processes whose parent a process is.
func children(parent int) []int {
	var out []int
	for _, pid := range pids() {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			out = append(out, pid)
		}
	}
	return out
}

// pids are all processes of the machine.
func pids() []int {
	entries, _ := os.ReadDir("/proc")
	var out []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			out = append(out, pid)
		}
	}
	return out
}
