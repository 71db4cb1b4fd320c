package conformance

import (
	"os"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// agentRestarted: the next agent goes on with what the one before had begun. A
// container that a probe stopped is started anew, although it ended well while
// there was no agent, and a hook that was under way is brought to its end.
func agentRestarted(t *testing.T, w *world) {
	touch := func(name string) {
		t.Helper()
		if err := os.WriteFile(w.file(name), []byte("x\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	touch("well")
	pod := w.pod(t, "restarted", `
restartPolicy: OnFailure
volumes: [{name: h, hostPath: {path: DIR}}]
containers:
- name: ill
  image: IMAGE
  args: [refuse, --, await, /h/end, x]
  volumeMounts: [{name: h, mountPath: /h}]
  livenessProbe: {periodSeconds: 1, failureThreshold: 1, exec: {command: [/tool, has, /h/well]}}
- name: hooked
  image: IMAGE
  args: [sleep]
  volumeMounts: [{name: h, mountPath: /h}]
  lifecycle: {postStart: {exec: {command: [/tool, add, /h/hooks, begun, --, await, /h/hook, x]}}}
`)
	w.run(t, pod, "up", func(p *corev1.Pod) bool { return status(p, "ill").Ready && status(p, "hooked").State.Running != nil })
	hooks := func() string {
		data, _ := os.ReadFile(w.file("hooks"))
		return string(data)
	}
	w.until(t, func() bool { return hooks() == "begun\n" }, func() string { return "the hook never ran: " + hooks() })
	if err := os.Remove(w.file("well")); err != nil {
		t.Fatal(err)
	}
	w.wantLog(t, pod, "ill", "told to end")
	w.end()
	touch("end")
	touch("well")
	w.launch()
	said := w.await(t, pod, "started anew", func(p *corev1.Pod) bool { return status(p, "ill").RestartCount > 0 })
	if last := status(said, "ill").LastTerminationState.Terminated; last == nil || last.ExitCode != 0 {
		t.Errorf("pod is %s", summary(said))
	}
	w.until(t, func() bool { return hooks() == "begun\nbegun\n" }, func() string { return "the hook was not run again: " + hooks() })
	if status(said, "hooked").Ready {
		t.Error("ready before its hook is through")
	}
	touch("hook")
	w.await(t, pod, "ready after its hook", func(p *corev1.Pod) bool { return status(p, "hooked").Ready })
	w.delete(t, pod, 0)
}
