package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/reconciler"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// TestUpFromGit takes the guestbook through its life, from the first commit to
// `reconcile down`.
func TestUpFromGit(t *testing.T) {
	require(t)
	t.Parallel()
	s := startSite(t, true, repo.addGuestbook)
	g := guestbook{site: s}
	for _, step := range []struct {
		what string
		do   func()
	}{
		{"it answers", g.answers},
		{"scale up", g.scaleUp},
		{"a container's process is killed", g.processKilled},
		{"a pod is deleted behind git's back", g.podDeleted},
		{"an object is changed behind git's back", g.drift},
		{"a broken manifest", g.broken},
		{"Ctrl-C and up again", func() { g.restart((*process).interrupt) }},
		{"kill -9 and up again", func() { g.restart((*process).kill) }},
		{"a file is removed", g.fileRemoved},
		{"down while up runs", g.down},
	} {
		s.step(step.what)
		step.do()
	}
	s.promptly()
}

type guestbook struct{ *site }

const (
	book = "guestbook" // namespace
	app  = "guestbook"
)

func (g guestbook) nodePort() string { return "http://" + g.host.ip + ":30080" }

// web and store are the pods by their role.
func (g guestbook) web() []*corev1.Pod   { return g.role("web") }
func (g guestbook) store() []*corev1.Pod { return g.role("store") }

func (g guestbook) role(role string) []*corev1.Pod {
	return slices.DeleteFunc(g.cluster.pods(book, app), func(p *corev1.Pod) bool { return p.Labels["role"] != role })
}

func (g guestbook) answers() {
	g.t.Logf("all ready after %v", g.cluster.ready())
	clusterIP := g.cluster.service(book, "guestbook").Spec.ClusterIP
	for _, place := range []struct {
		who    string
		target string
	}{{"from outside", g.nodePort()}, {"on the node", "http://" + clusterIP}} {
		ns := g.hub
		if place.who == "on the node" {
			ns = g.host.ns
		}
		eventually(g.t, patience, "page "+place.who, func() error {
			page, err := get(ns, place.target)
			if err == nil && (!strings.Contains(page, "The guestbook") || strings.Contains(page, "cannot be reached")) {
				err = fmt.Errorf("the page is %s", page)
			}
			return err
		})
	}
}

// webs waits until n pods answer behind the node port.
func (g guestbook) webs(n int) {
	g.t.Helper()
	eventually(g.t, patience, fmt.Sprintf("%d pods answering", n), func() error {
		seen := map[string]bool{}
		for range 6 * n {
			text, err := get(g.hub, g.nodePort()+"/api/entries")
			if err != nil {
				return err
			}
			var answer struct{ Web string }
			if err := json.Unmarshal([]byte(text), &answer); err != nil {
				return err
			}
			seen[answer.Web] = true
		}
		if len(seen) != n {
			return fmt.Errorf("%d answered: %v", len(seen), slices.Sorted(maps.Keys(seen)))
		}
		return nil
	})
}

func (g guestbook) scaleUp() {
	g.repo.replace("web.yaml", "replicas: 3", "replicas: 5")
	g.apply("scale up")
	g.cluster.ready()
	g.webs(5)
}

func (g guestbook) processKilled() {
	pod := g.web()[0]
	g.host.killProcesses(pod)
	eventually(g.t, patience, "container restarted", func() error {
		now := g.cluster.pod(book, pod.Name)
		if now.UID != pod.UID {
			g.t.Fatalf("pod %s was replaced", pod.Name)
		}
		if restarts(now) != 1 || !isReady(now) {
			return fmt.Errorf("%d restarts, ready %v", restarts(now), isReady(now))
		}
		return nil
	})
	g.webs(5)
}

func (g guestbook) podDeleted() {
	pod := g.web()[0]
	if _, err := g.cluster.regs.Delete(g.t.Context(), registry.Deletion{Key: schema.KeyOf(pod)}); err != nil {
		g.t.Fatal(err)
	}
	eventually(g.t, patience, "pod replaced", func() error {
		var ready []string
		for _, p := range g.web() {
			if p.UID == pod.UID {
				return fmt.Errorf("pod %s is still there", p.Name)
			}
			if isReady(p) {
				ready = append(ready, p.Name)
			}
		}
		if len(ready) != 5 || len(g.host.processesOf(pod)) > 0 {
			return fmt.Errorf("ready are %v", ready)
		}
		return nil
	})
	g.webs(5)
}

func (g guestbook) drift() {
	maps := registry.Of[*corev1.ConfigMap](g.cluster.regs, schema.ConfigMaps)
	services := registry.Of[*corev1.Service](g.cluster.regs, schema.Services)
	ctx := g.t.Context()
	if _, err := maps.Mutate(ctx, book, "guestbook", func(m *corev1.ConfigMap) error { m.Data["title"] = "Mine"; return nil }); err != nil {
		g.t.Fatal(err)
	}
	if err := services.Delete(ctx, book, "guestbook"); err != nil {
		g.t.Fatal(err)
	}
	eventually(g.t, patience, "git's state", func() error {
		m, err := maps.Get(ctx, book, "guestbook")
		if err == nil && m.Data["title"] != "The guestbook" {
			err = fmt.Errorf("title is %q", m.Data["title"])
		}
		if err == nil {
			_, err = services.Get(ctx, book, "guestbook")
		}
		return err
	})
	g.cluster.ready()
	g.webs(5)
}

func (g guestbook) broken() {
	good := g.repo.read("web.yaml")
	before := g.cluster.atRest()
	tr := g.startTraffic(g.hub, 50, g.nodePort())
	g.repo.replace("web.yaml", "replicas: 5", "replicas: seven")
	g.repo.replace("store.yaml", "replicas: 1", "replicas: 0")
	commit := g.repo.commit("break it")
	g.push()
	eventually(g.t, patience, "commit refused", func() error {
		if h := g.cluster.head(); h.Seen != commit || h.Result != reconciler.Failed {
			return fmt.Errorf("head is %+v", h)
		}
		return nil
	})
	text, err := g.host.run(g.host.ns, "reconcile", "status", "--data-dir="+g.host.data())
	if want := place(g.repo.read("web.yaml"), "web.yaml", "seven"); err != nil || !strings.Contains(text, want) {
		g.t.Errorf("status does not name %s: %v\n%s", want, err, text)
	}
	steadily(g.t, time.Second, "nothing changes", func() error {
		if diff := cmp.Diff(before, g.cluster.revisions()); diff != "" {
			return fmt.Errorf("objects (-before +after):\n%s", diff)
		}
		return nil
	})
	if n, err := tr.end(); err != nil || n == 0 {
		g.t.Errorf("%d requests: %v", n, err)
	}
	g.repo.write("web.yaml", good)
	g.repo.replace("store.yaml", "replicas: 0", "replicas: 1")
	g.apply("mend it")
}

// place is "file:line:col" of a word in a text.
func place(text, file, word string) string {
	before, _, _ := strings.Cut(text, word)
	line := strings.Count(before, "\n") + 1
	return fmt.Sprintf("%s:%d:%d", file, line, len(before)-strings.LastIndexByte(before, '\n'))
}

// restart ends up and starts it again: the containers must not notice, and
// nothing is written of what is as it should be.
func (g guestbook) restart(end func(*process)) {
	before, pods, written := g.host.running(), podUIDs(g.cluster.pods(book, app)), g.cluster.atRest()
	tr := g.startTraffic(g.hub, 50, g.nodePort())
	end(g.up)
	if diff := cmp.Diff(before, g.host.running()); diff != "" {
		g.t.Errorf("processes in pods (-before +after the end):\n%s", diff)
	}
	g.start()
	eventually(g.t, patience, "up at work again", func() error {
		if out := g.up.output(); !strings.Contains(out, "Everything is ready") {
			return fmt.Errorf("it says %s", out)
		}
		return nil
	})
	g.cluster.current()
	// It works: a change is taken up.
	g.repo.write("note.yaml", configMap("note", time.Now().String()))
	g.apply("change after a restart")
	now := g.cluster.revisions()
	for _, key := range []schema.Key{
		schema.ConfigMaps.Key(book, "note"),
		schema.Endpoints.Key("default", "kubernetes"), schema.EndpointSlices.Key("default", "kubernetes"), // the API was away
	} {
		delete(written, key.String())
		delete(now, key.String())
	}
	if diff := cmp.Diff(written, now); diff != "" {
		g.t.Errorf("objects (-before +after the restart):\n%s", diff)
	}
	if n, err := tr.end(); err != nil || n == 0 {
		g.t.Errorf("%d requests: %v", n, err)
	}
	if diff := cmp.Diff(before, g.host.running()); diff != "" {
		g.t.Errorf("processes in pods (-before +after the restart):\n%s", diff)
	}
	if diff := cmp.Diff(pods, podUIDs(g.cluster.pods(book, app))); diff != "" {
		g.t.Errorf("pods (-before +after the restart):\n%s", diff)
	}
}

func configMap(name, text string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: %s\n  namespace: %s\ndata:\n  text: %q\n", name, book, text)
}

// podUIDs are pods by what tells them apart, with their restarts.
func podUIDs(pods []*corev1.Pod) map[string]int32 {
	out := map[string]int32{}
	for _, p := range pods {
		out[string(p.UID)] = restarts(p)
	}
	return out
}

func (g guestbook) fileRemoved() {
	webs := podUIDs(g.web())
	if err := os.Remove(filepath.Join(g.repo.dir, "store.yaml")); err != nil {
		g.t.Fatal(err)
	}
	g.apply("remove the store")
	eventually(g.t, patience, "the store gone", func() error {
		if pods := g.store(); len(pods) > 0 {
			return fmt.Errorf("%d pods are there", len(pods))
		}
		for _, key := range []schema.Key{
			schema.Services.Key(book, "guestbook-store"), schema.ReplicationControllers.Key(book, "guestbook-store"),
		} {
			if g.cluster.mirror.Get(key) != nil {
				return fmt.Errorf("%s is there", key)
			}
		}
		return nil
	})
	if diff := cmp.Diff(webs, podUIDs(g.web())); diff != "" {
		g.t.Errorf("pods of what was not removed (-before +after):\n%s", diff)
	}
	if names := len(g.cluster.report().Objects); names != 5 { // namespace, config maps, service, controller
		g.t.Errorf("%d objects are left, want 5:\n%s", names, describe(g.cluster.report()))
	}
}

// down ends `up` too.
func (g guestbook) down() {
	g.host.down()
	if !g.up.wait(patience) || g.up.err != nil {
		g.t.Errorf("up ended with %v", g.up.err)
	}
}
