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

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry/etcd/embedded"
)

// mostPods is how many a node takes.
const mostPods = 110

// watched is how long an idle process's CPU time is taken.
const watched = 20 * time.Second

// measureAgent reads what a node agent that is a process of its own costs with
// many pods, and how soon the next one has taken them over when it is killed.
func measureAgent(ctx context.Context, bin string, runs int) ([]Result, error) {
	dir, err := os.MkdirTemp("", "ekb")
	if err != nil {
		return nil, err
	}
	s := newStage(bin, dir)
	if s.etcd, err = os.MkdirTemp("", "ekb"); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	defer os.RemoveAll(s.etcd)
	server, err := embedded.Start(ctx, embedded.Config{Dir: s.etcd, NoSync: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	defer server.Close()
	results, err := s.agentResults(ctx, runs)
	return results, errors.Join(err, s.close())
}

func (s *stage) agentResults(ctx context.Context, runs int) (_ []Result, err error) {
	if err := s.fill(ctx); err != nil {
		return nil, err
	}
	control := exec.Command(filepath.Join(s.bin, "reconcile"), s.repo, "--listen", "", "--etcd", embedded.Endpoint(s.etcd), "--data-dir", filepath.Join(s.dir, "data"))
	if err := control.Start(); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, control.Process.Signal(syscall.SIGTERM), control.Wait()) }()
	if err := s.startAgent(); err != nil {
		return nil, err
	}
	if err := errors.Join(s.view(ctx), s.holdPods(ctx, manyPods)); err != nil {
		return nil, err
	}
	pause(ctx, idle)
	before := worked(s.up.Process.Pid)
	pause(ctx, watched)
	share := (worked(s.up.Process.Pid) - before) / watched.Seconds() * 100
	results, err := residents(ctx, "nodeagent, 30 pods", 45, s.up.Process.Pid)
	if err != nil {
		return nil, err
	}
	results = append(results, summary("nodeagent, 30 pods, of a core", "%", 1, []float64{share}))
	if err := s.holdPods(ctx, mostPods); err != nil {
		return nil, err
	}
	var taken []float64
	for range runs {
		took, err := s.killAgent(ctx)
		if err != nil {
			return nil, err
		}
		taken = append(taken, took)
	}
	return append(results, summary("nodeagent killed: the next one's start → 110 pods taken over", "s", 1, taken)), nil
}

func (s *stage) startAgent() error {
	args := append([]string{
		"--dns-address", "", "--listen", "", "--eviction-hard=", "--image-gc-high-threshold=100",
		"--images", filepath.Dir(s.archive), "--etcd", embedded.Endpoint(s.etcd),
	}, s.place()...)
	s.up = exec.Command(filepath.Join(s.bin, "nodeagent"), args...)
	return s.up.Start()
}

// killAgent kills the agent, starts another, and times how long it takes until
// that has taken over: then it holds a lease of its own.
func (s *stage) killAgent(ctx context.Context) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	key := schema.NodeLeasePrefix + benchNode
	got, err := s.client.Get(ctx, key)
	if err != nil {
		return 0, err
	}
	if len(got.Kvs) == 0 {
		return 0, errors.New("the node has no lease")
	}
	watch := s.client.Watch(ctx, key, clientv3.WithRev(got.Header.Revision+1), clientv3.WithFilterDelete())
	if err := s.up.Process.Kill(); err != nil {
		return 0, err
	}
	_ = s.up.Wait() // that it was killed
	began := time.Now()
	if err := s.startAgent(); err != nil {
		return 0, err
	}
	for response := range watch {
		for _, event := range response.Events {
			if event.Kv.Lease != got.Kvs[0].Lease {
				return seconds(began), nil
			}
		}
	}
	return 0, fmt.Errorf("the node was not taken over: %w", ctx.Err())
}

// worked is a process's CPU time in seconds.
func worked(pid int) float64 {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, _ := strings.Cut(string(data), ") ")
	var user, system float64
	if fields := strings.Fields(after); len(fields) > 12 {
		_, _ = fmt.Sscan(fields[11], &user)
		_, _ = fmt.Sscan(fields[12], &system)
	}
	return (user + system) / ticks
}
