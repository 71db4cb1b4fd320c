package fake

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

func TestFake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r := New()
		spec := rt.Container{ID: "a", Name: "main", Image: "lamp:1", Pod: rt.PodRef{UID: "u", Namespace: "default", Name: "p"}}
		if err := r.Start(ctx, spec); !errors.Is(err, rt.ErrImageNotFound) {
			t.Errorf("without image: %v", err)
		}
		r.AddRemoteImage(rt.Image{Ref: "lamp:1"})
		dark := errors.New("dark")
		r.FailNext("Pull", dark)
		if _, err := r.Pull(ctx, "lamp:1", rt.PullOptions{}); !errors.Is(err, dark) {
			t.Errorf("fault: %v", err)
		}
		if _, err := r.Pull(ctx, "lamp:1", rt.PullOptions{}); err != nil {
			t.Error(err)
		}
		events, err := r.Events(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Start(ctx, spec); err != nil {
			t.Fatal(err)
		}
		if err := r.Start(ctx, spec); err == nil {
			t.Error("the same id again")
		}
		start := time.Now()
		time.AfterFunc(time.Hour, func() { r.Exit("a", 3) })
		want := rt.Event{ContainerID: "a", PodUID: "u", Exited: true}
		if diff := cmp.Diff(want, <-events); diff != "" {
			t.Error(diff)
		}
		list, err := r.Containers(ctx)
		if err != nil || len(list) != 1 || list[0].ExitCode != 3 || list[0].FinishedAt.Sub(start) != time.Hour {
			t.Errorf("got %+v, %v", list, err)
		}
		if diff := cmp.Diff("image lamp:1\ncontainer a pod=default/p name=main attempt=0 exited code=3 oom=false\n", r.Dump()); diff != "" {
			t.Error(diff)
		}
		cancel()
		synctest.Wait()
		if _, open := <-events; open {
			t.Error("events go on after their context")
		}
		if r.Calls("Pull") != 2 || r.Find("u", "main") != "a" {
			t.Error("counts or lookup are wrong")
		}
	})
}
