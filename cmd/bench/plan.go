package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/manifests/dir"
	"github.com/evenkeel/evenkeel/reconciler"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/registry/etcd"
	"github.com/evenkeel/evenkeel/schema/registry/etcd/embedded"
)

// planObjects is how many manifests are planned.
const planObjects = 10000

// measurePlans times the plan of many manifests as a whole process, beside
// what only decoding them costs, and a reconcile in which nothing is to do.
func measurePlans(ctx context.Context, bin string, runs int) ([]Result, error) {
	work, err := os.MkdirTemp("/tmp", "ekb")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	files := filepath.Join(work, "manifests")
	if err := writeManifests(files); err != nil {
		return nil, err
	}
	var plan, decode []float64
	for range runs {
		began := time.Now()
		cmd := exec.CommandContext(ctx, filepath.Join(bin, "reconcile"), "--dry-run", files)
		cmd.Stdout, cmd.Stderr = io.Discard, os.Stderr
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("dry run: %w", err)
		}
		plan = append(plan, seconds(began))
		began = time.Now()
		if err := decodeAll(files); err != nil {
			return nil, err
		}
		decode = append(decode, seconds(began))
	}
	noop, err := measureNoOp(ctx, filepath.Join(work, "etcd"), files, runs)
	if err != nil {
		return nil, err
	}
	return []Result{
		summary("plan of 10,000 manifests, whole process", "s", 3, plan),
		summary("  … of reading and decoding them with sigs.k8s.io/yaml on one core", "ratio", 0, ratios(plan, decode)),
		summary("no-op reconcile of 10,000 objects, no etcd write", "s", 0.1, noop),
	}, nil
}

// writeManifests writes pods of about 1 KB, a file each.
func writeManifests(dir string) error {
	for i := range planObjects {
		sub := filepath.Join(dir, fmt.Sprintf("team-%02d", i%50))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("pod-%05d.yaml", i)), []byte(manifest(i)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func manifest(i int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: v1\nkind: Pod\nmetadata:\n  name: pod-%05d\n  labels: {app: app-%d, tier: backend}\nspec:\n  containers:\n", i, i%100)
	fmt.Fprintf(&b, "  - name: main\n    image: registry.example/team/app:%d\n    args: [\"--port=8080\", \"--verbose\"]\n    ports:\n    - {name: http, containerPort: 8080}\n    env:\n", i%7)
	for n := range 10 {
		fmt.Fprintf(&b, "    - {name: SETTING_%d, value: \"value number %d of pod %d\"}\n", n, n, i)
	}
	b.WriteString("    resources:\n      requests: {cpu: 100m, memory: 64Mi}\n      limits: {memory: 128Mi}\n    readinessProbe:\n      httpGet: {path: /healthz, port: http}\n")
	return b.String()
}

func decodeAll(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return yaml.UnmarshalStrict(data, &corev1.Pod{})
	})
}

// measureNoOp applies all manifests to a real etcd and then times what a
// reconciler does when it is woken and nothing is to do: it looks at the
// directory, loads, and compares. A write to etcd is an error.
func measureNoOp(ctx context.Context, etcdDir, files string, runs int) ([]float64, error) {
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	server, err := embedded.Start(ctx, embedded.Config{Dir: etcdDir, NoSync: true, Logger: logger})
	if err != nil {
		return nil, err
	}
	defer server.Close()
	store := etcd.NewStore(server.Client())
	mirror := registry.NewMirror(registry.MirrorConfig{Store: store, Logger: logger})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- mirror.Run(ctx) }()
	defer func() { cancel(); <-done }()
	source, err := dir.New(dir.Config{Path: files, Logger: logger})
	if err != nil {
		return nil, err
	}
	r := noOp{store: store, mirror: mirror, source: source, loader: manifests.NewLoader(), known: reconciler.Known{}}
	if err := r.apply(ctx); err != nil {
		return nil, err
	}
	var out []float64
	for range runs {
		took, err := r.again(ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, took)
	}
	return out, nil
}

// noOp is what a running reconciler has.
type noOp struct {
	store  registry.Store
	mirror *registry.Mirror
	source manifests.Source
	loader *manifests.Loader
	known  reconciler.Known
	books  reconciler.Inventory
}

func (r *noOp) plan(ctx context.Context) (*reconciler.Plan, error) {
	snapshot, err := r.source.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	sets, findings := r.loader.Load(ctx, snapshot)
	if err := findings.Err(); err != nil {
		return nil, err
	}
	return reconciler.Diff(reconciler.Input{
		Desired: reconciler.NewDesired(sets...), Inventory: r.books, Live: r.mirror.Get,
		Read: map[string]bool{r.source.Name(): true}, Validator: reconciler.Rules{}, Known: r.known,
	})
}

func (r *noOp) apply(ctx context.Context) error {
	regs := registry.New(r.store, registry.Config{Validator: reconciler.Rules{}})
	namespace := schema.Namespaces.New()
	namespace.SetName("default")
	if _, err := regs.Create(ctx, namespace); err != nil {
		return err
	}
	plan, err := r.plan(ctx)
	if err != nil {
		return err
	}
	revision, err := reconciler.Apply(ctx, regs, plan)
	if err != nil {
		return err
	}
	if err := r.mirror.WaitFor(ctx, revision); err != nil {
		return err
	}
	if r.books, _, err = reconciler.Books(r.mirror.Raw(schema.SourcesPrefix)); err != nil {
		return err
	}
	_, err = r.plan(ctx) // fills what is known to be unchanged
	return err
}

func (r *noOp) again(ctx context.Context) (float64, error) {
	_, before, err := r.store.List(ctx, schema.SourcesPrefix+"none", 0)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	plan, err := r.plan(ctx)
	took := seconds(began)
	if err != nil {
		return 0, err
	}
	_, after, err := r.store.List(ctx, schema.SourcesPrefix+"none", 0)
	if err != nil {
		return 0, err
	}
	if !plan.Empty() || after != before {
		return 0, errors.New("a reconcile with nothing to do had something to do")
	}
	return took, nil
}
