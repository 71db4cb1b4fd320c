package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// manyPods is the size of a batch.
const manyPods = 30

// measurePods times a commit until all its pods run, one and many, beside a
// bare containerd client that starts as many containers of the same image.
func measurePods(ctx context.Context, bin string, runs int) ([]Result, error) {
	s, err := startStage(ctx, bin)
	if err != nil {
		return nil, err
	}
	results, err := s.podResults(ctx, runs)
	return results, errors.Join(err, s.close())
}

func (s *stage) podResults(ctx context.Context, runs int) ([]Result, error) {
	plain, err := openBare(ctx, s.containerd(), s.archive, echoImage)
	if err != nil {
		return nil, err
	}
	defer plain.close(ctx)
	var one, many, bare4, bare30 []float64
	for range runs {
		took, err := s.commitPods(ctx, 1)
		if err != nil {
			return nil, err
		}
		one = append(one, took)
		if took, err = s.commitPods(ctx, manyPods); err != nil {
			return nil, err
		}
		many = append(many, took)
		if took, err = plain.start(ctx, manyPods, 4); err != nil {
			return nil, err
		}
		bare4 = append(bare4, took)
		if took, err = plain.start(ctx, manyPods, manyPods); err != nil {
			return nil, err
		}
		bare30 = append(bare30, took)
	}
	best := bare4
	if summary("", "", 0, bare30).Median < summary("", "", 0, bare4).Median {
		best = bare30
	}
	return []Result{
		summary("commit → 1 pod running", "s", 1.5, one),
		summary("commit → 30 pods running", "s", 0, many),
		summary("30 containers by a bare containerd client, 4 at once", "s", 0, bare4),
		summary("30 containers by a bare containerd client, 30 at once", "s", 0, bare30),
		summary("30 pods against the quicker bare client", "ratio", 1.5, ratios(many, best)),
	}, nil
}

// commitPods commits a controller of n pods, times how long it takes until all
// run, and commits its removal.
func (s *stage) commitPods(ctx context.Context, n int) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	text := fmt.Sprintf(`apiVersion: v1
kind: ReplicationController
metadata: {name: batch}
spec:
  replicas: %d
  template:
    metadata: {labels: {app: batch}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: main, image: %q}
`, n, echoImage)
	if err := os.WriteFile(filepath.Join(s.repo, "batch.yaml"), []byte(text), 0o644); err != nil {
		return 0, err
	}
	if err := s.git("add", "batch.yaml"); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := s.git("commit", "-qm", "batch"); err != nil {
		return 0, err
	}
	if err := s.awaitPods(ctx, n); err != nil {
		return 0, fmt.Errorf("%d pods: %w", n, err)
	}
	took := seconds(began)
	if err := s.git("rm", "-q", "batch.yaml"); err != nil {
		return 0, err
	}
	if err := s.git("commit", "-qm", "no batch"); err != nil {
		return 0, err
	}
	return took, s.awaitPods(ctx, 0)
}

// awaitPods blocks until exactly n pods are there and all of them run.
func (s *stage) awaitPods(ctx context.Context, n int) error {
	sub := s.mirror.Subscribe(schema.Pods)
	defer sub.Close()
	for {
		running := 0
		pods := registry.ListOf[*corev1.Pod](s.mirror, schema.Pods, "")
		for _, pod := range pods {
			if pod.Status.Phase == corev1.PodRunning {
				running++
			}
		}
		if len(pods) == n && running == n {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d run: %w", running, n, ctx.Err())
		case <-sub.Ready():
			sub.Take()
		}
	}
}

func (s *stage) git(args ...string) error {
	cmd := exec.Command("git", append([]string{"-C", s.repo, "-c", "user.name=bench", "-c", "user.email=bench@example.org"}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("git %v: %w: %s", args, err, out)
	}
	return nil
}
