package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/evenkeel/evenkeel/schema"
)

// measureCold times the plan of many manifests as whole processes, and beside
// them what checks or decodes the same files.
func measureCold(ctx context.Context, bin string, runs int) ([]Result, error) {
	return withPlans(ctx, bin, func(p plans) ([]Result, error) { return p.cold(ctx, runs) })
}

// measureWarm times the plan of many manifests as a running reconciler makes
// it.
func measureWarm(ctx context.Context, bin string, runs int) ([]Result, error) {
	return withPlans(ctx, bin, func(p plans) ([]Result, error) { return p.warm(ctx, runs) })
}

// withPlans writes the manifests that measure plans.
func withPlans(ctx context.Context, bin string, measure func(plans) ([]Result, error)) ([]Result, error) {
	work, err := os.MkdirTemp("", "ekb")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	p := plans{bin: bin, work: work, files: filepath.Join(work, "manifests"), repo: filepath.Join(work, "repo.git")}
	if err := writeMix(p.files, planObjects); err != nil {
		return nil, err
	}
	if err := p.commitAll(ctx); err != nil {
		return nil, err
	}
	return measure(p)
}

// plans are the same manifests in a directory and in a bare repository.
type plans struct{ bin, work, files, repo string }

func (p plans) git(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "git", append([]string{
		"-c", "user.name=bench", "-c", "user.email=bench@example.org", "-c", "gc.auto=0", "-c", "maintenance.auto=false",
		"--git-dir", p.repo, "--work-tree", p.files,
	}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("git %v: %w: %s", args, err, out)
	}
	return nil
}

// commitAll makes the repository, packed as one that was cloned is.
func (p plans) commitAll(ctx context.Context) error {
	if out, err := exec.CommandContext(ctx, "git", "init", "-q", "--bare", "-b", "main", p.repo).CombinedOutput(); err != nil {
		return fmt.Errorf("git init: %w: %s", err, out)
	}
	for _, args := range [][]string{{"add", "-A"}, {"commit", "-q", "-m", "first"}, {"gc", "-q"}} {
		if err := p.git(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

func (p plans) cold(ctx context.Context, runs int) ([]Result, error) {
	checker, err := newKubeconform(ctx, filepath.Join(p.work, "schemas"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: without kubeconform:", err)
	}
	var plan, planMemory, repo, repoMemory, decode, conform []float64
	for range runs {
		took, peak, err := p.dryRun(ctx, p.files)
		if err != nil {
			return nil, err
		}
		plan, planMemory = append(plan, took), append(planMemory, peak)
		if took, peak, err = p.dryRun(ctx, p.repo); err != nil {
			return nil, err
		}
		repo, repoMemory = append(repo, took), append(repoMemory, peak)
		began := time.Now()
		if err := decodeAll(p.files); err != nil {
			return nil, err
		}
		decode = append(decode, seconds(began))
		if checker == nil {
			continue
		}
		if took, err = checker.run(ctx, p.files); err != nil {
			return nil, err
		}
		conform = append(conform, took)
	}
	out := []Result{
		summary("cold plan of 10,000 manifests in a directory, whole process (issue 2: 3 s)", "s", 1, plan),
		summary("  its peak memory (250 MB)", "MiB", 238, planMemory),
		summary("  … of reading and decoding them with sigs.k8s.io/yaml on one core", "ratio", 0, ratios(plan, decode)),
		summary("cold plan of 10,000 manifests in a bare git repository, whole process", "s", 1.5, repo),
		summary("  its peak memory (250 MB)", "MiB", 238, repoMemory),
	}
	if checker != nil {
		out = append(out,
			summary("kubeconform -strict on the same directory", "s", 0, conform),
			summary("  cold plan in a directory against it", "ratio", 1, ratios(plan, conform)))
	}
	return out, nil
}

// dryRun returns how many seconds a whole process took, and how many MiB it
// was at its largest.
func (p plans) dryRun(ctx context.Context, source string) (took, peak float64, err error) {
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, "reconcile"), "--dry-run", source)
	cmd.Stdout, cmd.Stderr = io.Discard, os.Stderr
	began := time.Now()
	if err := cmd.Run(); err != nil {
		return 0, 0, fmt.Errorf("dry run: %w", err)
	}
	took = seconds(began)
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		peak = float64(usage.Maxrss) / 1024
	}
	return took, peak, nil
}

// decodeAll decodes all files strictly into Kubernetes' types, one by one.
func decodeAll(dir string) error {
	into := map[string]func() schema.Object{
		"namespace.yaml":  func() schema.Object { return &corev1.Namespace{} },
		"settings.yaml":   func() schema.Object { return &corev1.ConfigMap{} },
		"controller.yaml": func() schema.Object { return &corev1.ReplicationController{} },
		"service.yaml":    func() schema.Object { return &corev1.Service{} },
		"pod.yaml":        func() schema.Object { return &corev1.Pod{} },
	}
	return filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		_, kind := filepath.Split(strings.ReplaceAll(path, "-", "/")) // app-01-pod.yaml
		return yaml.UnmarshalStrict(data, into[kind]())
	})
}
