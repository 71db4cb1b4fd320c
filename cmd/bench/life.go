package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/contrib/seccomp"
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

// round is one measurement of each sort, in the units of the rows.
type round struct {
	one, first, gone, cpu, exit, again float64
	// ratios to a bare client with and without a seccomp profile, and its CPU
	confined, open, bareCPU float64
	podmanOne, podmanMany   float64
}

func (s *stage) life(ctx context.Context, runs int) ([]Result, error) {
	plain, err := openBare(ctx, s.containerd(), s.archive, echoImage)
	if err != nil {
		return nil, err
	}
	defer plain.close(ctx)
	beside := openPodman(ctx, s.archive)
	var rounds []round
	for range runs {
		r, err := s.round(ctx, plain, beside)
		if err != nil {
			return nil, err
		}
		rounds = append(rounds, r)
	}
	return lifeResults(rounds, beside), nil
}

func lifeResults(rounds []round, beside bool) []Result {
	row := func(name, unit string, limit float64, of func(round) float64) Result {
		var values []float64
		for _, r := range rounds {
			values = append(values, of(r))
		}
		return summary(name, unit, limit, values)
	}
	out := []Result{
		row("commit → pod reported running", "s", 0.2, func(r round) float64 { return r.one }),
		row("first of 30 pods running", "s", 0.6, func(r round) float64 { return r.first }),
		row("30 pods against a bare containerd client with their seccomp profile, 4 at once", "ratio", 1.15, func(r round) float64 { return r.confined }),
		row("the same, the client's without a profile", "ratio", 0, func(r round) float64 { return r.open }),
		row("CPU of the machine for each of 30 pods", "ms", 100, func(r round) float64 { return r.cpu }),
		row("the same for the bare client with the profile, removal included", "ms", 0, func(r round) float64 { return r.bareCPU }),
		row("container's exit → reported", "s", 0.05, func(r round) float64 { return r.exit }),
		row("container's exit → running again", "s", 0.3, func(r round) float64 { return r.again }),
		row("30 pods with a grace of 1 s deleted", "s", 3, func(r round) float64 { return r.gone }),
	}
	if beside {
		out = append(out,
			row("one pod against podman run", "ratio", 0, func(r round) float64 { return r.podmanOne }),
			row("30 pods against podman run, 4 at once", "ratio", 0, func(r round) float64 { return r.podmanMany }))
	}
	return out
}

func (s *stage) round(ctx context.Context, plain *bare, beside bool) (round, error) {
	single, err := s.batch(ctx, 1)
	if err != nil {
		return round{}, err
	}
	many, err := s.batch(ctx, manyPods)
	if err != nil {
		return round{}, err
	}
	r := round{one: single.all, first: many.first, gone: many.gone, cpu: many.cpu}
	before := busy()
	took, err := plain.start(ctx, manyPods, 4, seccomp.WithDefaultProfile())
	if err != nil {
		return r, err
	}
	r.confined, r.bareCPU = many.all/took, (busy()-before)*1000/manyPods
	if took, err = plain.start(ctx, manyPods, 4); err != nil {
		return r, err
	}
	r.open = many.all / took
	if r.exit, err = s.killed(ctx, corev1.RestartPolicyNever, failed); err != nil {
		return r, err
	}
	if r.again, err = s.killed(ctx, corev1.RestartPolicyAlways, restarted); err != nil || !beside {
		return r, err
	}
	alone, crowd, err := podmanStarts(ctx)
	r.podmanOne, r.podmanMany = single.all/alone, many.all/crowd
	return r, err
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
