package apiserver_test

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// TestSlowConsumer leaves a watch unread while an object changes for so long
// that the server lets go of it. Others are not held up, and from where it
// stopped other watches bring all the rest, each change once.
func TestSlowConsumer(t *testing.T) {
	const changes = 20000
	w := inMemory(t)
	watching := func(from string) watch.Interface {
		t.Helper()
		got, err := w.kube.CoreV1().ConfigMaps("default").Watch(t.Context(), metav1.ListOptions{ResourceVersion: from})
		w.must(got, err)
		return got
	}
	object, err := w.kube.CoreV1().ConfigMaps("default").Create(t.Context(), configMap("busy", nil), metav1.CreateOptions{})
	w.must(object, err)
	slow, quick := watching(object.ResourceVersion), watching(object.ResourceVersion)
	defer quick.Stop()
	filling := strings.Repeat("x", 2000)
	ahead := make(chan struct{}, 500) // of the quick one: as much as is kept for it on a slow machine, too
	go func() {
		for i := range changes {
			select {
			case ahead <- struct{}{}:
			case <-t.Context().Done():
				return
			}
			_, err := w.regs.Update(t.Context(), configMap("busy", map[string]string{"n": fmt.Sprint(i), "filling": filling}))
			if err != nil {
				t.Errorf("change %d: %v", i, err)
				return
			}
		}
	}()
	for i := range changes {
		if got := numberOf(next(t, quick, false)); got != fmt.Sprint(i) {
			t.Fatalf("the quick one got change %s, want %d", got, i)
		}
		<-ahead
	}

	seen, last := 0, object.ResourceVersion
	read := func(from watch.Interface) {
		t.Helper()
		defer from.Stop()
		for seen < changes {
			e, open := <-from.ResultChan()
			cm, ok := e.Object.(*corev1.ConfigMap)
			if !open || !ok {
				return // it is too far behind
			}
			if got := numberOf(e); got != fmt.Sprint(seen) {
				t.Fatalf("the slow one got change %s, want %d", got, seen)
			}
			seen, last = seen+1, cm.ResourceVersion
		}
	}
	read(slow)
	if seen == changes {
		t.Fatal("the slow one was not let go")
	}
	t.Logf("let go after %d of %d changes", seen, changes)
	for seen < changes {
		before := seen
		read(watching(last))
		if seen == before {
			t.Fatalf("nothing came after change %d", seen-1)
		}
	}
}

func numberOf(e watch.Event) string {
	if cm, ok := e.Object.(*corev1.ConfigMap); ok {
		return cm.Data["n"]
	}
	return describe(e)
}
