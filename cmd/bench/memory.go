package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/evenkeel/evenkeel/schema/registry/etcd/embedded"
)

// idle is how long a process is left alone before its memory is read.
const idle = 10 * time.Second

// measureMemory reads the memory of `reconcile up`, and of the three programs
// apart, without a pod and with many.
func measureMemory(ctx context.Context, bin string, _ int) ([]Result, error) {
	s, err := startStage(ctx, bin)
	if err != nil {
		return nil, err
	}
	results, err := s.upMemory(ctx)
	if err = errors.Join(err, s.close()); err != nil {
		return nil, err
	}
	apart, err := threeMemory(ctx, bin)
	return append(results, apart...), err
}

func (s *stage) upMemory(ctx context.Context) ([]Result, error) {
	pause(ctx, idle)
	out, err := residents(ctx, "reconcile up, idle", 150, s.up.Process.Pid)
	if err != nil {
		return nil, err
	}
	if err := s.holdPods(ctx, manyPods); err != nil {
		return nil, err
	}
	pause(ctx, idle)
	with, err := residents(ctx, "reconcile up, 30 pods", 0, s.up.Process.Pid)
	return append(out, with...), err
}

// holdPods commits pods that stay.
func (s *stage) holdPods(ctx context.Context, n int) error {
	text := fmt.Sprintf("apiVersion: v1\nkind: ReplicationController\nmetadata: {name: held}\nspec:\n  replicas: %d\n  template:\n"+
		"    metadata: {labels: {app: held}}\n    spec: {terminationGracePeriodSeconds: 1, containers: [{name: main, image: %q}]}\n", n, echoImage)
	if err := os.WriteFile(filepath.Join(s.repo, "held.yaml"), []byte(text), 0o644); err != nil {
		return err
	}
	if err := s.git("add", "held.yaml"); err != nil {
		return err
	}
	if err := s.git("commit", "-qm", "held"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return s.awaitPods(ctx, n)
}

// threeMemory runs the three programs on an etcd in this process.
func threeMemory(ctx context.Context, bin string) ([]Result, error) {
	dir, err := os.MkdirTemp("", "ekb")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	source := filepath.Join(dir, "source")
	if err := os.Mkdir(source, 0o755); err != nil {
		return nil, err
	}
	server, err := embedded.Start(ctx, embedded.Config{Dir: filepath.Join(dir, "etcd"), NoSync: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	defer server.Close()
	s := &stage{bin: bin, dir: dir}
	endpoint := []string{"--listen", "", "--etcd", embedded.Endpoint(filepath.Join(dir, "etcd"))}
	var out []Result
	var started []*exec.Cmd
	for _, program := range [][]string{
		{"reconcile", source, "--data-dir", filepath.Join(dir, "data")},
		append([]string{"nodeagent", "--dns-address", ""}, s.place()...),
		{"proxy", "--node-name", benchNode, "--dns-address", ""},
	} {
		cmd := exec.Command(filepath.Join(bin, program[0]), append(program[1:], endpoint...)...)
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		started = append(started, cmd)
	}
	pause(ctx, idle)
	for _, cmd := range started {
		results, err := residents(ctx, filepath.Base(cmd.Path)+", idle", 0, cmd.Process.Pid)
		if err != nil {
			return nil, err
		}
		out = append(out, results...)
		if err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait()); err != nil {
			return nil, err
		}
	}
	if text, err := exec.Command(filepath.Join(bin, "reconcile"), append([]string{"down"}, s.place()...)...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("reconcile down: %w: %s", err, text)
	}
	return out, nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// readings is how often a process's memory is read, a second apart.
const readings = 5

// residents reads a process's resident memory several times: all of it, and
// what is not backed by files.
func residents(ctx context.Context, name string, limit float64, pid int) ([]Result, error) {
	var all, anonymous []float64
	for i := range readings {
		if i > 0 {
			pause(ctx, time.Second)
		}
		one, some, err := resident(pid)
		if err != nil {
			return nil, err
		}
		all, anonymous = append(all, one), append(anonymous, some)
	}
	return []Result{
		summary(name+", resident", "MiB", limit, all),
		summary(name+", anonymous", "MiB", 0, anonymous),
	}, ctx.Err()
}

// resident is a process's memory in MiB.
func resident(pid int) (all, anonymous float64, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(data)) {
		var kib float64
		if _, err := fmt.Sscanf(line, "VmRSS: %f kB", &kib); err == nil {
			all = kib / 1024
		}
		if _, err := fmt.Sscanf(line, "RssAnon: %f kB", &kib); err == nil {
			anonymous = kib / 1024
		}
	}
	return all, anonymous, nil
}
