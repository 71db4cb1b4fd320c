package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/testdata/requires"
)

func TestLife(t *testing.T) {
	for _, oci := range []string{"runc", "crun"} {
		t.Run(oci, func(t *testing.T) {
			requires.Programs(t, oci)
			n := newNode(t, func(c *Config) { c.OCIRuntime = oci })
			c := n.container("p1", "main", "exit", "7")
			err := n.Start(t.Context(), c)
			if oci == "crun" && err != nil && strings.Contains(err.Error(), "hybrid mode not supported") {
				// crun makes nothing on machines of a kind that is going away.
				if all, listErr := n.Containers(t.Context()); !errors.Is(err, rt.ErrStart) || listErr != nil || len(all) != 0 {
					t.Errorf("refused as %v, left is %v, %v", err, all, listErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := n.await(c.ID, "exited", exited)
			want := rt.Status{
				ID: c.ID, Pod: c.Pod, Name: "main", SpecHash: "h1", Image: toolRef,
				ImageID: got.ImageID, State: rt.Exited, ExitCode: 7,
			}
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(rt.Status{}, "CreatedAt", "StartedAt", "FinishedAt")); diff != "" {
				t.Error(diff)
			}
			if got.StartedAt.Before(got.CreatedAt) || time.Since(got.FinishedAt) > time.Minute {
				t.Errorf("times are wrong: %+v", got)
			}
			if log := n.awaitLog(c, "err"); !strings.Contains(log, "out\n") {
				t.Errorf("log %q lacks stdout", log)
			}
			if err := n.Start(t.Context(), c); err == nil {
				t.Error("the same id was started twice")
			}
			for range 2 {
				if err := n.Remove(t.Context(), c.ID); err != nil {
					t.Error(err)
				}
			}
			if all, err := n.Containers(t.Context()); err != nil || len(all) != 0 {
				t.Errorf("after removal: %v, %v", all, err)
			}
		})
	}
}

// The containers of a pod share a shim; the end of one is not that of others.
func TestPodSharesShim(t *testing.T) {
	n := newNode(t)
	a := n.start(n.container("p1", "a", "sleep"))
	b := n.start(n.container("p1", "b", "sleep"))
	other := n.start(n.container("p2", "a", "sleep"))
	pa, pb, po := n.status(a.ID).PID, n.status(b.ID).PID, n.status(other.ID).PID
	shimA, _ := ancestry(pa)
	shimB, _ := ancestry(pb)
	shimO, _ := ancestry(po)
	if shimA != shimB || shimA == shimO {
		t.Fatalf("shims are %d and %d in one pod, %d in another", shimA, shimB, shimO)
	}
	if err := n.Kill(t.Context(), a.ID); err != nil {
		t.Fatal(err)
	}
	if got := n.status(a.ID); got.State != rt.Exited || got.ExitCode != 137 || got.OOMKilled {
		t.Errorf("killed container is %+v", got)
	}
	if err := n.Remove(t.Context(), a.ID); err != nil {
		t.Fatal(err)
	}
	if got := n.status(b.ID); got.State != rt.Running || got.PID != pb {
		t.Errorf("the other container of the pod is %+v", got)
	}
	again := n.container("p1", "a", "sleep")
	again.Attempt = 1
	n.start(again)
	if got := n.status(again.ID); got.State != rt.Running || got.Attempt != 1 {
		t.Errorf("restarted container is %+v", got)
	}
	n.awaitLog(b, "sleeping")
	if err := n.Signal(t.Context(), b.ID, int(syscall.SIGTERM)); err != nil {
		t.Fatal(err)
	}
	if got := n.await(b.ID, "exited", exited); got.ExitCode != 3 {
		t.Errorf("signalled container is %+v", got)
	}
	if err := n.Signal(t.Context(), b.ID, int(syscall.SIGTERM)); !errors.Is(err, rt.ErrNotFound) {
		t.Errorf("signal to the ended: %v", err)
	}
}

// A second Runtime knows what the first one did, and what happened between.
func TestTakeover(t *testing.T) {
	n := newNode(t)
	runs := n.start(n.container("p1", "runs", "sleep"))
	ends := n.start(n.container("p1", "ends", "sleep"))
	for _, id := range []string{runs.ID, ends.ID} {
		if err := errors.Join(n.Note(t.Context(), id, "first"), n.Note(t.Context(), id, "lamp")); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Note(t.Context(), "none", "lamp"); !errors.Is(err, rt.ErrNotFound) {
		t.Errorf("note on nothing: %v", err)
	}
	n.awaitLog(ends, "sleeping")
	before := n.status(runs.ID)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(mustPID(t, n, ends.ID), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	n.open()
	if diff := cmp.Diff(before, n.status(runs.ID)); diff != "" {
		t.Error(diff)
	}
	if got := n.await(ends.ID, "exited", exited); got.ExitCode != 3 || got.StartedAt.IsZero() || got.Note != "lamp" {
		t.Errorf("container that ended meanwhile is %+v", got)
	}
}

func mustPID(t *testing.T, n *node, id string) int {
	t.Helper()
	n.open()
	pid := n.status(id).PID
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if pid == 0 {
		t.Fatalf("container %s has no pid", id)
	}
	return pid
}

func TestOOM(t *testing.T) {
	n := newNode(t)
	events, err := n.Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := n.container("p1", "eater", "eat")
	c.Resources = rt.Resources{MemoryLimit: 32 << 20, CPUShares: 512, CPUQuota: 50000, CPUPeriod: 100000, OOMScoreAdj: -998}
	n.start(c)
	if got := n.await(c.ID, "exited", exited); !got.OOMKilled || got.ExitCode != 137 {
		t.Errorf("container over its limit is %+v", got)
	}
	var exit bool
	timeout := time.After(time.Minute)
	for !exit {
		select {
		case e := <-events:
			exit = e.Exited && e.ContainerID == c.ID && e.PodUID == c.Pod.UID
		case <-timeout:
			t.Fatal("no event of the exit")
		}
	}
	n.open() // what the first Runtime knew in memory is gone
	if got := n.status(c.ID); !got.OOMKilled {
		t.Errorf("after a restart it is %+v", got)
	}
}

// A shim that is killed takes its containers with it; they are reported as
// exited and leave nothing behind.
func TestShimKilled(t *testing.T) {
	n := newNode(t)
	a := n.start(n.container("p1", "a", "sleep"))
	b := n.start(n.container("p1", "b", "sleep"))
	ended := n.start(n.container("p1", "ended", "exit", "0"))
	n.await(ended.ID, "exited", exited)
	pid := n.status(a.ID).PID
	shimPID, _ := ancestry(pid)
	if err := syscall.Kill(shimPID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, c := range []rt.Container{a, b} {
		if got := n.await(c.ID, "exited", exited); got.ExitCode != 137 || got.PID != 0 {
			t.Errorf("container of a dead shim is %+v", got)
		}
	}
	if got := n.status(ended.ID); got.ExitCode != 0 || got.State != rt.Exited {
		t.Errorf("container that had ended before is %+v", got)
	}
	for _, c := range []rt.Container{a, b, ended} {
		if err := n.Remove(t.Context(), c.ID); err != nil {
			t.Error(err)
		}
		if left := n.cgroups.processes(c.CgroupParent + "/" + c.ID); len(left) > 0 {
			t.Errorf("processes left of %s: %v", c.ID, left)
		}
	}
	if mounts := mountsOf(t, n.cfg.Namespace); len(mounts) > 0 {
		t.Errorf("mounts left: %v", mounts)
	}
}

func TestStartRefused(t *testing.T) {
	n := newNode(t)
	missing := n.container("p1", "missing")
	missing.Args = []string{"/no-such-program"}
	badMount := n.container("p1", "mount", "sleep")
	badMount.Mounts = []rt.Mount{{Source: "/no/such/source", Destination: "/x"}}
	root := n.container("p1", "root", "sleep")
	root.Security = rt.Security{RunAsNonRoot: true, RunAsUser: new(int64)}
	noImage := n.container("p1", "image", "sleep")
	noImage.Image = "evenkeel.io/none:1"
	badName := n.container("p1", "name", "sleep")
	badName.Image = "NOT A NAME"
	for name, test := range map[string]struct {
		c    rt.Container
		is   error
		says string
	}{
		"missing program": {missing, rt.ErrStart, "no-such-program"},
		"missing source":  {badMount, rt.ErrStart, "/no/such/source"},
		"root refused":    {root, rt.ErrConfig, "runAsNonRoot"},
		"no image":        {noImage, rt.ErrImageNotFound, "evenkeel.io/none:1"},
		"bad reference":   {badName, rt.ErrInvalidImage, "NOT A NAME"},
	} {
		t.Run(name, func(t *testing.T) {
			err := n.Start(t.Context(), test.c)
			if !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v", err)
			}
			t.Log(err)
		})
	}
	if all, err := n.Containers(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("left behind: %v, %v", all, err)
	}
	if n.cgroups.remove(n.cfg.CgroupRoot) != nil {
		t.Error("cgroups with processes left behind")
	}
}

func TestExec(t *testing.T) {
	n := newNode(t)
	c := n.container("p1", "main", "sleep")
	c.Hostname, c.Env = "lighthouse", []string{"LIGHT=off"}
	n.start(c)

	code, out, err := n.Exec(t.Context(), c.ID, []string{"/tool", "id"}, 1000)
	if err != nil || code != 0 {
		t.Fatal(code, err)
	}
	if want := "uid=1000 gid=1001 groups=[1001 1002] cwd=/ host=lighthouse"; !strings.HasPrefix(string(out), want) {
		t.Errorf("got %s, want %s", out, want)
	}
	if !strings.Contains(string(out), "LIGHT=off") || !strings.Contains(string(out), "HOSTNAME=lighthouse") {
		t.Errorf("environment is wrong: %s", out)
	}
	if code, out, err := n.Exec(t.Context(), c.ID, []string{"/tool", "exit", "9"}, 5); err != nil || code != 9 || len(out) != 5 {
		t.Errorf("got %d %q %v", code, out, err)
	}
	if _, out, err := n.Exec(t.Context(), c.ID, []string{"/tool", "flood"}, 300); err != nil || len(out) != 300 {
		t.Errorf("flood: %d bytes, %v", len(out), err)
	}
	if _, _, err := n.Exec(t.Context(), c.ID, []string{"/none"}, 300); !errors.Is(err, rt.ErrStart) {
		t.Errorf("missing command: %v", err)
	}
	if _, _, err := n.Exec(t.Context(), "none", []string{"/none"}, 300); !errors.Is(err, rt.ErrNotFound) {
		t.Errorf("missing container: %v", err)
	}
}

// A command that runs out of time is killed with its children, even those
// that went into a session of their own.
func TestExecTimeout(t *testing.T) {
	n := newNode(t)
	c := n.start(n.container("p1", "main", "sleep"))
	n.awaitLog(c, "sleeping")
	all := func() int { return len(n.cgroups.processes(c.CgroupParent + "/" + c.ID)) }
	before := all()
	ctx, over := context.WithCancelCause(t.Context())
	grandchild := filepath.Join(fmt.Sprint("/proc/", n.status(c.ID).PID), "root", "data", "sleeps")
	go func() {
		defer over(context.DeadlineExceeded)
		for {
			if _, err := os.Stat(grandchild); err == nil || pause(t.Context(), 10*time.Millisecond) != nil {
				return
			}
		}
	}()
	_, _, err := n.Exec(ctx, c.ID, []string{"/tool", "family", "family"}, 300)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(grandchild); err != nil {
		t.Errorf("the grandchild never ran: %v", err)
	}
	ending, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for all() != before { // those that were killed take a moment
		if pause(ending, 10*time.Millisecond) != nil {
			t.Fatalf("%d processes before, now %d", before, all())
		}
	}
	if got := n.status(c.ID); got.State != rt.Running {
		t.Errorf("the container itself is %+v", got)
	}
}

// TestKillFamilyThatGrows: those that are born while they are looked for are
// ended too.
func TestKillFamilyThatGrows(t *testing.T) {
	script := filepath.Join(t.TempDir(), "grow") // which its command lines name
	writeFile(t, script, `if [ "$1" = 60 ]; then sleep 60; exit; fi; setsid sh "$0" $(($1 + 1)) & wait`)
	cmd := exec.CommandContext(t.Context(), "sh", script, "0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for len(processesOf(t, script)) < 5 {
		if err := pause(t.Context(), time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	killFamily(func() (pids []int) {
		files, _ := filepath.Glob("/proc/[0-9]*")
		for _, file := range files {
			pid, _ := strconv.Atoi(filepath.Base(file))
			pids = append(pids, pid)
		}
		return pids
	}, cmd.Process.Pid)
	_ = cmd.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for len(processesOf(t, script)) > 0 { // those that were killed take a moment
		if pause(ctx, 10*time.Millisecond) != nil {
			t.Fatalf("left: %v", processesOf(t, script))
		}
	}
}
