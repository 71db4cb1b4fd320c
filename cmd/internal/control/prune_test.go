package control

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/reconciler"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/registry/memory"
	"github.com/evenkeel/evenkeel/schema/validation"
	"github.com/evenkeel/evenkeel/testdata/requires"
)

// place is a source on disk that a fault befalls.
type place struct {
	t    *testing.T
	dir  string // of the manifests
	repo bool
}

func (p *place) write(name, text string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) git(args ...string) {
	p.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=Ann", "GIT_AUTHOR_EMAIL=ann@example.org", "GIT_COMMITTER_NAME=Ann", "GIT_COMMITTER_EMAIL=ann@example.org")
	if out, err := cmd.CombinedOutput(); err != nil {
		p.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (p *place) commit() {
	p.t.Helper()
	if p.repo {
		p.git("add", "-A")
		p.git("commit", "-q", "--allow-empty", "-m", "next")
	}
}

const objectCount = 12

func (p *place) fill() {
	for i := range objectCount {
		p.write(fmt.Sprintf("m%02d.yaml", i), configMap(i))
	}
	p.commit()
}

func configMap(i int) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: m%02d\n  namespace: default\ndata:\n  key: value\n", i)
}

func newPlace(t *testing.T, repo bool) *place {
	p := &place{t: t, dir: t.TempDir(), repo: repo}
	if repo {
		requires.Programs(t, "git")
		p.git("init", "-q", "-b", "main")
	}
	p.fill()
	return p
}

// run follows a place with a reconciler until it has told of a result that
// passes done.
func run(t *testing.T, store registry.Store, logger *slog.Logger, flags Flags, where string, done func(reconciler.Head) bool) reconciler.Head {
	t.Helper()
	sources, err := flags.Sources([]string{where}, t.TempDir(), logger)
	if err != nil {
		return reconciler.Head{Message: err.Error()}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	mirror := registry.NewMirror(registry.MirrorConfig{Store: store})
	var last reconciler.Head
	var wg sync.WaitGroup
	wg.Go(func() { _ = mirror.Run(ctx) })
	wg.Go(func() {
		defer cancel()
		err := reconciler.Run(ctx, reconciler.Config{
			Sources: sources, Registries: registry.New(store, registry.Config{Validator: validation.Rules{}}), Mirror: mirror,
			Validator: validation.Rules{}, Logger: logger, Checks: NewChecks(mirror, nil),
			Synced: func(h reconciler.Head, findings manifests.Diagnostics) {
				logger.Info("source", "head", h, "findings", findings)
				if last = h; done(h) {
					cancel()
				}
			},
		})
		if err != nil {
			t.Error(err)
		}
	})
	wg.Wait()
	if !done(last) {
		t.Errorf("the source never came to what it should; last: %+v", last)
	}
	return last
}

func applied(h reconciler.Head) bool { return h.Result == reconciler.Applied }

func not(h reconciler.Head) bool { return h.Result != "" && h.Result != reconciler.Applied }

// names lists what is there.
func names(t *testing.T, store registry.Store) []string {
	t.Helper()
	objs, _, err := registry.New(store, registry.Config{}).List(t.Context(), schema.ConfigMaps, "")
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, obj := range objs {
		out = append(out, obj.GetName())
	}
	return out
}

// TestNothingIsDeletedWhenASourceBreaks breaks directories and repositories in
// every way, while a reconciler is away, and starts one: in no cell is anything
// deleted, and each says why.
func TestNothingIsDeletedWhenASourceBreaks(t *testing.T) {
	faults := []struct {
		name  string
		harm  func(p *place)
		flags Flags
		where func(p *place) string // default: where it was
	}{
		{name: "missing path", harm: func(p *place) { must(p.t, os.RemoveAll(p.dir)) }},
		{name: "every file gone", harm: func(p *place) {
			for i := range objectCount {
				must(p.t, os.Remove(filepath.Join(p.dir, fmt.Sprintf("m%02d.yaml", i))))
			}
			p.commit()
		}},
		{name: "most files gone", harm: func(p *place) {
			for i := range objectCount - 1 {
				must(p.t, os.Remove(filepath.Join(p.dir, fmt.Sprintf("m%02d.yaml", i))))
			}
			p.commit()
		}},
		{name: "empty repository, or an unmounted directory", harm: func(p *place) {
			must(p.t, os.RemoveAll(p.dir))
			must(p.t, os.Mkdir(p.dir, 0o755))
			if p.repo {
				p.git("init", "-q", "-b", "main")
			}
		}},
		{name: "not a directory", harm: func(p *place) {
			must(p.t, os.RemoveAll(p.dir))
			must(p.t, os.WriteFile(p.dir, nil, 0o644))
		}},
		{name: "truncated file", harm: func(p *place) { p.write("m01.yaml", configMap(1)[:40]); p.commit() }},
		{name: "emptied file that says it is one", harm: func(p *place) { p.write("m01.yaml", "kind: ConfigMap\n"); p.commit() }},
		{name: "unknown kind", harm: func(p *place) {
			p.write("m01.yaml", strings.Replace(configMap(1), "ConfigMap", "ConfigMop", 1))
			p.commit()
		}},
		{name: "unknown version", harm: func(p *place) {
			p.write("m01.yaml", strings.Replace(configMap(1), "apiVersion: v1", "apiVersion: v2", 1))
			p.commit()
		}},
		{name: "lost objects", harm: func(p *place) {
			lose := filepath.Join(p.dir, ".git", "objects")
			if !p.repo {
				lose = p.dir
			}
			must(p.t, os.RemoveAll(lose))
		}},
		{name: "bad reference", flags: Flags{Ref: "no-such-branch"}, harm: func(p *place) { skipDirectory(p) }},
		{name: "bad path", flags: Flags{Path: "no/such/path"}, harm: func(p *place) { skipDirectory(p) }},
		{name: "misspelt source", harm: func(*place) {}, where: func(p *place) string { return p.dir + "x" }},
		{name: "another directory", harm: func(p *place) {}, where: func(p *place) string { return p.t.TempDir() }},
		{name: "permission denied", harm: func(p *place) {
			if os.Geteuid() == 0 {
				p.t.Skip("root may read everything")
			}
			must(p.t, os.Chmod(p.dir, 0))
		}},
	}
	for _, fault := range faults {
		for _, repo := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/git=%v", fault.name, repo), func(t *testing.T) {
				t.Parallel()
				store := memory.New()
				namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
				if _, err := registry.New(store, registry.Config{Validator: validation.Rules{}}).Create(t.Context(), namespace); err != nil {
					t.Fatal(err)
				}
				p := newPlace(t, repo)
				run(t, store, slog.New(slog.DiscardHandler), Flags{}, p.dir, applied)
				want := names(t, store)
				if len(want) != objectCount {
					t.Fatalf("before the fault: %v", want)
				}
				fault.harm(p)
				where := p.dir
				if fault.where != nil {
					where = fault.where(p)
				}
				flags := fault.flags
				settled := not
				if fault.name == "another directory" {
					settled = applied
				}
				head := reconciler.Head{Message: "refused at the start"}
				if sources, err := flags.Sources([]string{where}, t.TempDir(), slog.New(slog.DiscardHandler)); err == nil && len(sources) == 1 {
					head = run(t, store, slog.New(slog.DiscardHandler), flags, where, settled)
				}
				t.Logf("%s: %s", head.Result, head.Message)
				if diff := cmp.Diff(want, names(t, store)); diff != "" {
					t.Errorf("what is there, -before +after the fault:\n%s", diff)
				}
			})
		}
	}
}

func skipDirectory(p *place) {
	if !p.repo {
		p.t.Skip("a directory has no references")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
