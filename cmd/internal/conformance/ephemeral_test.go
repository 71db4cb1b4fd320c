package conformance

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/evenkeel/evenkeel/schema/validation"
)

// debug adds ephemeral containers to a pod that runs, as the API server does.
func (w *world) debug(t *testing.T, pod *corev1.Pod, containers string) *corev1.Pod {
	t.Helper()
	var added []corev1.EphemeralContainer
	if err := yaml.UnmarshalStrict([]byte(strings.ReplaceAll(containers, "IMAGE", image)), &added); err != nil {
		t.Fatal(err)
	}
	next := pod.DeepCopy()
	next.Spec.EphemeralContainers = append(next.Spec.EphemeralContainers, added...)
	next.Generation++
	validation.Default(next)
	if errs := validation.ValidateEphemeral(next, pod); len(errs) > 0 {
		t.Fatal(errs.ToAggregate())
	}
	w.bind(next)
	return next
}

// ephemerals is what became of a pod's ephemeral containers.
func ephemerals(p *corev1.Pod) map[string]string {
	out := map[string]string{}
	for _, c := range p.Status.EphemeralContainerStatuses {
		switch {
		case c.State.Running != nil:
			out[c.Name] = "running"
		case c.State.Terminated != nil:
			out[c.Name] = fmt.Sprintf("%s %d", c.State.Terminated.Reason, c.State.Terminated.ExitCode)
		case c.State.Waiting != nil:
			out[c.Name] = c.State.Waiting.Reason + ": " + c.State.Waiting.Message
		}
		if c.RestartCount != 0 || c.Ready {
			out[c.Name] += fmt.Sprintf(", ready %t after %d restarts", c.Ready, c.RestartCount)
		}
	}
	return out
}

// ephemeral: what is added to a pod that runs sees what it is to see, is
// started once, and is nothing that its pod waits for.
func ephemeral(t *testing.T, w *world) {
	pod := w.pod(t, "ephemeral", `
restartPolicy: Never
terminationGracePeriodSeconds: 5
volumes: [{name: v, emptyDir: {}}]
containers:
- {name: main, image: IMAGE, args: [await, /v/go, now], volumeMounts: [{name: v, mountPath: /v}]}
- {name: other, image: IMAGE, args: [sleep]}
`)
	before := w.run(t, pod, "ready", ready)
	pod = w.debug(t, pod, `
- name: looks
  image: IMAGE
  targetContainerName: main
  args: [ps, --, hostname, --, id, --, say, $(WHO), --, stat, /v/by-debugger, --, add, /v/by-debugger, x]
  env: [{name: WHO, value: debugger}]
  volumeMounts: [{name: v, mountPath: /v}]
  securityContext: {runAsUser: 1234, runAsGroup: 4321}
- {name: alone, image: IMAGE, args: [ps]}
- {name: fails, image: IMAGE, args: [exit, "3"]}
- {name: stays, image: IMAGE, args: [sleep]}
- {name: tied, image: IMAGE, targetContainerName: main, args: [stubborn]}
`)
	want := map[string]string{"looks": "Error 1", "alone": "Completed 0", "fails": "Error 3", "stays": "running", "tied": "running"}
	said := w.await(t, pod, "looked into", func(p *corev1.Pod) bool { return cmp.Equal(ephemerals(p), want) })
	w.wantLog(t, pod, "looks", "\nprocess /tool await /v/go now", "\nprocess /tool ps ", "\nhostname ephemeral\n", "\nuid=1234 gid=4321", "\ndebugger\n")
	w.wantLog(t, pod, "alone", "\nprocess /tool ps")
	for container, not := range map[string]string{"looks": "/tool sleep", "alone": "/tool await"} {
		if log := w.log(t, pod, container); strings.Contains(log, not) {
			t.Errorf("%s sees %q:\n%s", container, not, log)
		}
	}
	if diff := cmp.Diff(stable(before), stable(said)); diff != "" || said.Status.ObservedGeneration != pod.Generation || said.Status.QOSClass != before.Status.QOSClass {
		t.Errorf("the pod itself, of generation %d (-before +after):\n%s", said.Status.ObservedGeneration, diff)
	}
	pod = w.debug(t, pod, `[{name: ends, image: IMAGE, args: [add, /v/go, now], volumeMounts: [{name: v, mountPath: /v}]}]`)
	want["ends"], want["tied"] = "Completed 0", "Error 137" // with the process namespace of main
	w.await(t, pod, "without main", func(p *corev1.Pod) bool { return cmp.Equal(ephemerals(p), want) })
	w.delete(t, pod, 5)

	users := w.pod(t, "ephemeral-users", `
hostUsers: false
containers: [{name: main, image: IMAGE, args: [sleep]}]
`)
	w.run(t, users, "ready", ready)
	users = w.debug(t, users, `[{name: looks, image: IMAGE, targetContainerName: main, args: [ps]}]`)
	w.await(t, users, "looked into", func(p *corev1.Pod) bool { return ephemerals(p)["looks"] == "Completed 0" })
	w.wantLog(t, users, "looks", "\nprocess /tool sleep")
	w.delete(t, users, 0)
}
