package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/contrib/seccomp"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// measureLife times what a node agent does for its pods beside the start of a
// batch: one pod, the first of many, an exit, a restart, an end.
func measureLife(ctx context.Context, bin string, runs int) ([]Result, error) {
	s, err := startStage(ctx, bin)
	if err != nil {
		return nil, err
	}
	results, err := s.life(ctx, runs)
	return results, errors.Join(err, s.close())
}

// batch is what one batch of pods took, in seconds but for the CPU time, which
// is that of the whole machine in milliseconds a pod.
type batch struct{ first, all, gone, cpu float64 }

func (s *stage) life(ctx context.Context, runs int) ([]Result, error) {
	plain, err := openBare(ctx, s.containerd(), s.archive, echoImage)
	if err != nil {
		return nil, err
	}
	defer plain.close(ctx)
	var one, first, gone, ours, theirs, exit, restart, wall, confined, podman []float64
	for range runs {
		single, err := s.batch(ctx, 1)
		if err != nil {
			return nil, err
		}
		many, err := s.batch(ctx, manyPods)
		if err != nil {
			return nil, err
		}
		before := busy()
		took, err := plain.start(ctx, manyPods, 4)
		if err != nil {
			return nil, err
		}
		one, first, gone = append(one, single.all), append(first, many.first), append(gone, many.gone)
		ours, theirs = append(ours, many.cpu), append(theirs, (busy()-before)*1000/manyPods)
		wall = append(wall, many.all/took)
		if took, err = plain.start(ctx, manyPods, 4, seccomp.WithDefaultProfile()); err != nil {
			return nil, err
		}
		confined = append(confined, many.all/took)
		seen, err := s.killed(ctx, corev1.RestartPolicyNever, failed)
		if err != nil {
			return nil, err
		}
		again, err := s.killed(ctx, corev1.RestartPolicyAlways, restarted)
		if err != nil {
			return nil, err
		}
		exit, restart = append(exit, seen), append(restart, again)
		if took, ok := podmanStarts(ctx, s.archive); ok {
			podman = append(podman, many.all/took)
		}
	}
	out := []Result{
		summary("commit → pod reported running", "s", 0.2, one),
		summary("first of 30 pods running", "s", 0.6, first),
		summary("30 pods against a bare containerd client, 4 at once", "ratio", 1.15, wall),
		summary("the same, the client's with the default seccomp profile, as pods have it", "ratio", 0, confined),
		summary("CPU of the machine for each of 30 pods", "ms", 100, ours),
		summary("the same for the bare client, removal included", "ms", 0, theirs),
		summary("container's exit → reported", "s", 0.05, exit),
		summary("container's exit → running again", "s", 0.3, restart),
		summary("30 pods with a grace of 1 s deleted", "s", 3, gone),
	}
	if len(podman) > 0 {
		out = append(out, summary("30 pods against podman run, 4 at once", "ratio", 0, podman))
	}
	return out, nil
}

// batch commits a controller of n pods, waits for them, and commits their end.
func (s *stage) batch(ctx context.Context, n int) (batch, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	text := fmt.Sprintf("apiVersion: v1\nkind: ReplicationController\nmetadata: {name: batch}\nspec:\n  replicas: %d\n  template:\n"+
		"    metadata: {labels: {app: batch}}\n    spec: {terminationGracePeriodSeconds: 1, containers: [{name: main, image: %q}]}\n", n, echoImage)
	var b batch
	began, before := time.Now(), busy()
	if err := s.commit("batch.yaml", text); err != nil {
		return b, err
	}
	err := s.awaitAll(ctx, func(pods []*corev1.Pod) bool {
		running := count(pods, func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
		if running > 0 && b.first == 0 {
			b.first = seconds(began)
		}
		return running == n
	})
	if err != nil {
		return b, fmt.Errorf("%d pods: %w", n, err)
	}
	b.all, b.cpu = seconds(began), (busy()-before)*1000/float64(n)
	began = time.Now()
	if err := s.remove("batch.yaml"); err != nil {
		return b, err
	}
	err = s.awaitAll(ctx, func(pods []*corev1.Pod) bool { return len(pods) == 0 })
	b.gone = seconds(began)
	return b, err
}

func count(pods []*corev1.Pod, is func(*corev1.Pod) bool) int {
	n := 0
	for _, p := range pods {
		if is(p) {
			n++
		}
	}
	return n
}

func failed(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed }

func restarted(p *corev1.Pod) bool {
	c := p.Status.ContainerStatuses
	return len(c) == 1 && c[0].RestartCount == 1 && c[0].State.Running != nil
}

// killed commits a pod, kills its process, and times how long it takes until
// the pod's status says so.
func (s *stage) killed(ctx context.Context, policy corev1.RestartPolicy, said func(*corev1.Pod) bool) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	text := fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: victim}\nspec: {restartPolicy: %s, terminationGracePeriodSeconds: 1, containers: [{name: main, image: %q}]}\n", policy, echoImage)
	if err := s.commit("victim.yaml", text); err != nil {
		return 0, err
	}
	var uid string
	err := s.awaitAll(ctx, func(pods []*corev1.Pod) bool {
		running := count(pods, func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
		if running == 1 {
			uid = string(pods[0].UID)
		}
		return running == 1
	})
	if err != nil {
		return 0, fmt.Errorf("victim: %w", err)
	}
	pid := processOf(uid)
	if pid == 0 {
		return 0, fmt.Errorf("no process of pod %s", uid)
	}
	began := time.Now()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return 0, err
	}
	err = s.awaitAll(ctx, func(pods []*corev1.Pod) bool { return len(pods) == 1 && said(pods[0]) })
	took := seconds(began)
	if err != nil {
		return 0, fmt.Errorf("after the kill: %w", err)
	}
	if err := s.remove("victim.yaml"); err != nil {
		return 0, err
	}
	return took, s.awaitAll(ctx, func(pods []*corev1.Pod) bool { return len(pods) == 0 })
}

// processOf is the process that runs in a pod of one container, 0 if none does.
func processOf(uid string) int {
	paths, _ := filepath.Glob("/proc/[0-9]*/cgroup")
	for _, path := range paths {
		cgroup, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(cgroup), "/pod"+uid+"/") {
			continue
		}
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		if len(line) == 0 || strings.Contains(string(line), "containerd-shim") {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		return pid
	}
	return 0
}

func (s *stage) commit(name, text string) error {
	if err := os.WriteFile(filepath.Join(s.repo, name), []byte(text), 0o644); err != nil {
		return err
	}
	return errors.Join(s.git("add", name), s.git("commit", "-qm", name))
}

func (s *stage) remove(name string) error {
	return errors.Join(s.git("rm", "-q", name), s.git("commit", "-qm", "no "+name))
}

// awaitAll blocks until the pods are as wanted.
func (s *stage) awaitAll(ctx context.Context, wanted func([]*corev1.Pod) bool) error {
	sub := s.mirror.Subscribe(schema.Pods)
	defer sub.Close()
	for !wanted(registry.ListOf[*corev1.Pod](s.mirror, schema.Pods, "")) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-sub.Ready():
			sub.Take()
		}
	}
	return nil
}

// ticks is what the kernel counts CPU time in, a second.
const ticks = 100

// busy is how many seconds all CPUs of the machine have worked.
func busy() float64 {
	data, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(data), "\n")
	var sum float64
	for i, field := range strings.Fields(line) {
		if n, err := strconv.ParseFloat(field, 64); err == nil && !slices.Contains([]int{4, 5}, i) && i < 9 {
			sum += n // all but idle and waiting for disks
		}
	}
	return sum / ticks
}

// podmanStarts times podman starting as many containers, 4 at once; false where
// it is not installed or cannot.
func podmanStarts(ctx context.Context, archive string) (float64, bool) {
	if _, err := exec.LookPath("podman"); err != nil {
		return 0, false
	}
	podman := func(args ...string) error { return exec.CommandContext(ctx, "podman", args...).Run() }
	if podman("load", "--quiet", "--input", archive) != nil {
		return 0, false
	}
	defer func() { _ = podman("rm", "--force", "--time", "0", "--filter", "label=evenkeel-bench") }()
	began := time.Now()
	var group errgroup.Group
	group.SetLimit(4)
	for range manyPods {
		group.Go(func() error {
			return podman("run", "--detach", "--pull=never", "--label", "evenkeel-bench", "--cgroups=disabled", echoImage)
		})
	}
	if group.Wait() != nil {
		return 0, false
	}
	return seconds(began), true
}
