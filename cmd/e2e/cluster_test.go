package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/reconciler"
	"github.com/evenkeel/evenkeel/reconciler/status"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// cluster is the state in etcd as a test sees it.
type cluster struct {
	t      *testing.T
	regs   *registry.Registries
	mirror *registry.Mirror
}

// cluster follows an etcd in a namespace until the test ends.
func (w *world) cluster(ns netns.NsHandle, endpoint string) *cluster {
	w.t.Helper()
	store := w.openEtcd(ns, endpoint)
	c := &cluster{t: w.t, regs: registry.New(store, registry.Config{}), mirror: registry.NewMirror(registry.MirrorConfig{Store: store})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.mirror.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		<-done
	})
	select {
	case <-c.mirror.Synced():
	case <-time.After(patience):
		w.t.Fatalf("the state in %s could not be read", endpoint)
	}
	return c
}

// report is what `reconcile status` shows.
func (c *cluster) report() status.Report {
	c.t.Helper()
	r, err := status.Compute(c.mirror)
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

// ready waits until every source is in force and all of it ready.
func (c *cluster) ready() time.Duration {
	c.t.Helper()
	return eventually(c.t, patience, "everything ready", func() error {
		r := c.report()
		if r.Ready && len(r.Objects) > 0 {
			return nil
		}
		return fmt.Errorf("%s", describe(r))
	})
}

func describe(r status.Report) string {
	var b strings.Builder
	_ = r.Render(&b, time.Now())
	return b.String()
}

// current waits until the test sees what etcd has, which may take it a moment
// after etcd was away.
func (c *cluster) current() {
	c.t.Helper()
	eventually(c.t, patience, "state read anew", func() error {
		ctx, cancel := context.WithTimeout(c.t.Context(), time.Second)
		defer cancel()
		_, revision, err := c.regs.List(ctx, schema.Nodes, "")
		if err == nil {
			err = c.mirror.WaitFor(ctx, revision)
		}
		return err
	})
}

// head is the only source's.
func (c *cluster) head() reconciler.Head {
	c.t.Helper()
	if sources := c.report().Sources; len(sources) == 1 {
		return sources[0]
	}
	return reconciler.Head{}
}

// inForce waits until a commit is, and returns how long that took.
func (c *cluster) inForce(commit string) time.Duration {
	c.t.Helper()
	return eventually(c.t, patience, "commit in force", func() error {
		if h := c.head(); h.Revision != commit {
			return fmt.Errorf("%s is, %s: %s %v", h.Revision, h.Result, h.Message, h.Findings)
		}
		return nil
	})
}

// object is a declared object's line in the report.
func (c *cluster) object(kind, name string) status.Object {
	c.t.Helper()
	for _, o := range c.report().Objects {
		if o.Kind == kind && o.FullName() == name {
			return o
		}
	}
	return status.Object{}
}

// pods are those of a namespace with a label app, sorted by name.
func (c *cluster) pods(namespace, app string) []*corev1.Pod {
	var out []*corev1.Pod
	for _, pod := range registry.ListOf[*corev1.Pod](c.mirror, schema.Pods, namespace) {
		if app == "" || pod.Labels["app"] == app {
			out = append(out, pod)
		}
	}
	return out
}

// pod is one that the test knows to be there.
func (c *cluster) pod(namespace, name string) *corev1.Pod {
	c.t.Helper()
	pod, ok := registry.GetOf[*corev1.Pod](c.mirror, schema.Pods, namespace, name)
	if !ok {
		c.t.Fatalf("no pod %s/%s", namespace, name)
	}
	return pod
}

// service is one that the test knows to be there.
func (c *cluster) service(namespace, name string) *corev1.Service {
	c.t.Helper()
	svc, ok := registry.GetOf[*corev1.Service](c.mirror, schema.Services, namespace, name)
	if !ok {
		c.t.Fatalf("no service %s/%s", namespace, name)
	}
	return svc
}

func isReady(pod *corev1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue && pod.DeletionTimestamp == nil
		}
	}
	return false
}

func restarts(pod *corev1.Pod) int32 {
	var n int32
	for _, s := range pod.Status.ContainerStatuses {
		n += s.RestartCount
	}
	return n
}

// statusJSON runs `reconcile status -o json`.
func (h *host) statusJSON() status.Report {
	h.t.Helper()
	out, err := h.run(h.ns, "reconcile", "status", "-o", "json", "--data-dir="+h.data())
	if err != nil {
		h.t.Fatalf("reconcile status: %v\n%s", err, out)
	}
	var r status.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		h.t.Fatalf("reconcile status: %v\n%s", err, out)
	}
	return r
}
