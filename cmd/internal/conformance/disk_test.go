package conformance

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/schema"
)

// diskLimits: a pod that writes more than it may, to a volume, to its own
// files or to its log, is evicted alone, although it ignores SIGTERM.
func diskLimits(t *testing.T, w *world) {
	const volume = "volumes: [{name: v, emptyDir: {sizeLimit: 1Mi}}]\n"
	const limited = "resources: {limits: {ephemeral-storage: 1Mi}}"
	within := w.pod(t, "within-limits", volume+`
containers: [{name: main, image: IMAGE, args: [fill, /v/x, "0", --, sleep], volumeMounts: [{name: v, mountPath: /v}], `+limited+`}]`)
	w.bind(within)
	t.Run("over", func(t *testing.T) {
		for name, tc := range map[string]struct{ spec, message, advice string }{
			"fills-volume": {
				volume + `containers: [{name: main, image: IMAGE, args: [fill, /v/x, "4", --, stubborn], volumeMounts: [{name: v, mountPath: /v}]}]`,
				`Usage of EmptyDir volume "v" exceeds the limit "1Mi". `, "sizeLimit",
			},
			"fills-files": {
				`containers: [{name: main, image: IMAGE, args: [fill, /data/x, "4", --, stubborn], ` + limited + `}]`,
				"Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. ", "ephemeral-storage",
			},
			"fills-log": {
				`containers: [{name: main, image: IMAGE, args: [fill, /proc/self/fd/1, "4", --, stubborn], ` + limited + `}]`,
				"Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. ", "ephemeral-storage",
			},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				pod := w.pod(t, name, "restartPolicy: Always\nterminationGracePeriodSeconds: 300\n"+tc.spec)
				said := w.run(t, pod, "evicted", func(p *corev1.Pod) bool { return p.Status.Reason == "Evicted" })
				if said.Status.Phase != corev1.PodFailed || said.Status.Message != tc.message {
					t.Errorf("pod is %s", summary(said))
				}
				w.until(t, func() bool { return strings.Contains(w.eventsOf(t, pod), tc.advice) }, func() string {
					return "nobody is told what to do: " + w.eventsOf(t, pod)
				})
				w.delete(t, pod, 0)
			})
		}
	})
	said := w.await(t, within, "looked at", func(p *corev1.Pod) bool { return p.Status.Phase != corev1.PodPending })
	if said.Status.Phase != corev1.PodRunning {
		t.Errorf("a pod within its limits is %s", summary(said))
	}
	w.delete(t, within, 0)
}

// eventsOf are the messages of a pod's evictions.
func (w *world) eventsOf(t *testing.T, pod *corev1.Pod) string {
	t.Helper()
	kvs, _, err := w.store.List(t.Context(), schema.Events.Key(pod.Namespace, "").Path(), 0)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, kv := range kvs {
		obj, err := schema.DecodeObject(kv.Value)
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := obj.(*corev1.Event); ok && e.InvolvedObject.UID == pod.UID && e.Reason == "Evicted" {
			out.WriteString(e.Message + "\n")
		}
	}
	return out.String()
}
