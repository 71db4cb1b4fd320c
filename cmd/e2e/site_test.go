package e2e

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry/etcd/embedded"
)

// site is `reconcile up` on a host of its own, fed from a git repository.
type site struct {
	*world
	host    *host
	cluster *cluster
	repo    repo
	place   string // what up is given: the repository, or the one it is pushed to
	bare    bool
	up      *process
	flags   []string
	took    []time.Duration // from a commit to it being in force
}

// startSite runs `reconcile up` on a repository whose first commit fill makes.
// A bare site's commits are pushed to a bare repository.
func startSite(t *testing.T, bare bool, fill func(repo), flags ...string) *site {
	t.Helper()
	w := newWorld(t, 1)
	s := &site{world: w, host: w.hosts[0], bare: bare, repo: w.newRepo("repo"), flags: flags}
	s.place = s.repo.dir
	if bare {
		s.place = filepath.Join(w.dir, "origin.git")
		s.repo.git("init", "--quiet", "--bare", "--initial-branch=main", s.place)
		s.repo.git("remote", "add", "origin", s.place)
	}
	fill(s.repo)
	first := s.repo.commit("first")
	s.push()
	s.start()
	s.cluster = w.cluster(s.host.ns, s.host.etcd())
	s.cluster.inForce(first)
	return s
}

// etcd is the endpoint of the etcd that `reconcile up` runs on the host.
func (h *host) etcd() string { return embedded.Endpoint(filepath.Join(h.data(), "etcd")) }

func (s *site) push() {
	s.t.Helper()
	if s.bare {
		s.repo.git("push", "--quiet", "origin", "main")
	}
}

// start runs `reconcile up`, once more if it ran before.
func (s *site) start() {
	s.t.Helper()
	args := append([]string{"up", "--eviction-hard=", "--image-gc-high-threshold=100", "--images=" + s.host.images(), "--log-level=info"}, s.host.place()...)
	s.up = s.world.start(s.host.ns, "reconcile", append(append(args, s.flags...), s.place)...)
}

// apply commits what the worktree holds and waits until it is in force.
func (s *site) apply(subject string) {
	s.t.Helper()
	commit := s.repo.commit(subject)
	began := time.Now()
	s.push()
	s.cluster.inForce(commit)
	s.took = append(s.took, time.Since(began))
	s.t.Logf("%q in force after %v", subject, s.took[len(s.took)-1])
}

// promptly checks how long commits took to be in force: a second at the
// median, since a busy machine may have held up one of them.
func (s *site) promptly() {
	s.t.Helper()
	slices.Sort(s.took)
	s.t.Logf("commit to in force: %v", s.took)
	if median := s.took[len(s.took)/2]; median > time.Second {
		s.t.Errorf("commits were in force after %v at the median, want at most a second", median)
	}
}

// step says what the test does next.
func (w *world) step(what string) {
	w.t.Helper()
	w.t.Logf("%s  == %s", time.Now().Format("15:04:05.000"), what)
}

// podsReady waits until exactly n pods are there, all ready.
func (c *cluster) podsReady(namespace, app string, n int) []*corev1.Pod {
	c.t.Helper()
	var pods []*corev1.Pod
	eventually(c.t, patience, fmt.Sprintf("%d pods of %s/%s ready", n, namespace, app), func() error {
		pods = c.pods(namespace, app)
		if len(pods) != n {
			return fmt.Errorf("%d pods are there", len(pods))
		}
		for _, pod := range pods {
			if !isReady(pod) {
				return fmt.Errorf("pod %s is not ready: %s", pod.Name, describe(c.report()))
			}
		}
		return nil
	})
	return pods
}

// revisions are those of all objects but what is written as time goes by.
func (c *cluster) revisions() map[string]string {
	out := map[string]string{}
	for _, kind := range schema.Kinds {
		if kind == schema.Events || kind == schema.Nodes {
			continue
		}
		for _, obj := range c.mirror.List(kind, "") {
			out[schema.KeyOf(obj).String()] = obj.GetResourceVersion()
		}
	}
	return out
}

// atRest waits until nothing is written any more, and returns the revisions.
func (c *cluster) atRest() map[string]string {
	c.t.Helper()
	c.current()
	last, since := c.revisions(), time.Now()
	eventually(c.t, patience, "nothing written", func() error {
		if now := c.revisions(); !maps.Equal(last, now) {
			last, since = now, time.Now()
		}
		if quiet := time.Since(since); quiet < 500*time.Millisecond {
			return fmt.Errorf("something was %v ago", quiet)
		}
		return nil
	})
	return last
}

// running are the processes in pods, which a restart of ours must not change.
func (h *host) running() []int { return slices.Sorted(maps.Keys(h.containers())) }
