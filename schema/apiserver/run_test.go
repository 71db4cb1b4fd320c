package apiserver_test

import (
	"testing"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/evenkeel/evenkeel/schema/registry/memory"
)

// TestRunLeavesNothing starts and ends a server under requests: nothing of it
// is left. What Kubernetes' packages start once for a process does not count.
func TestRunLeavesNothing(t *testing.T) {
	use := func() {
		w := serve(t, memory.New())
		w.must(w.regs.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}))
		watching, err := w.kube.CoreV1().ConfigMaps("default").Watch(t.Context(), metav1.ListOptions{})
		w.must(watching, err)
		w.must(w.regs.Create(t.Context(), configMap("a", nil)))
		wantEvents(t, watching, "ADDED a")
		w.stop()
		if _, open := <-watching.ResultChan(); open {
			t.Error("the watch goes on after the server")
		}
		client, err := rest.HTTPClientFor(w.config)
		w.must(client, err)
		client.CloseIdleConnections()
	}
	use()
	before := goleak.IgnoreCurrent()
	use()
	goleak.VerifyNone(t, before)
}
