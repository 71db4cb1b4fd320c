package conformance

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// probeFields: when a probe is tried, what counts, and how it asks.
func probeFields(t *testing.T, w *world) {
	pod := w.pod(t, "probe-fields", `
terminationGracePeriodSeconds: 0
volumes: [{name: h, hostPath: {path: DIR}}]
containers:
- {name: delayed, image: IMAGE, args: [sleep], readinessProbe: {initialDelaySeconds: 2, periodSeconds: 1, exec: {command: [/tool, has, /tool]}}}
- name: thrice
  image: IMAGE
  args: [sleep]
  volumeMounts: [{name: h, mountPath: /h}]
  readinessProbe: {periodSeconds: 1, successThreshold: 3, exec: {command: [/tool, add, /h/thrice, x]}}
- name: patient
  image: IMAGE
  args: [sleep]
  volumeMounts: [{name: h, mountPath: /h}]
  livenessProbe: {periodSeconds: 1, failureThreshold: 3, exec: {command: [/tool, add, /h/patient, x, --, has, /none]}}
- {name: timeout, image: IMAGE, args: [sleep], livenessProbe: {periodSeconds: 1, failureThreshold: 1, timeoutSeconds: 1, exec: {command: [/tool, sleep]}}}
- {name: http, image: IMAGE, args: [serve, "8091"], livenessProbe: {initialDelaySeconds: 1, periodSeconds: 1, failureThreshold: 1, httpGet: {port: 8091}}}
- {name: tcp, image: IMAGE, args: [sleep], livenessProbe: {periodSeconds: 1, failureThreshold: 1, tcpSocket: {port: 8092}}}
- {name: grpc, image: IMAGE, args: [sleep], livenessProbe: {periodSeconds: 1, failureThreshold: 1, grpc: {port: 8093}}}
- {name: tls, image: IMAGE, args: [serve-tls, "8094"], readinessProbe: {periodSeconds: 1, httpGet: {port: 8094, scheme: HTTPS}}}
- {name: elsewhere, image: IMAGE, args: [sleep], readinessProbe: {periodSeconds: 1, tcpSocket: {host: 127.0.0.1, port: 1}}}
- {name: delayed-tls, image: IMAGE, args: [serve-tls, "8096"], readinessProbe: {initialDelaySeconds: 2, periodSeconds: 10, httpGet: {port: 8096, scheme: HTTPS}}}
`)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	pod.Spec.Containers[8].ReadinessProbe.TCPSocket.Port.IntVal = int32(listener.Addr().(*net.TCPAddr).Port)
	count := func(name string) int {
		data, _ := os.ReadFile(w.file(name))
		return strings.Count(string(data), "x")
	}
	w.bind(pod)
	for _, name := range []string{"delayed", "delayed-tls"} {
		said := w.await(t, pod, name, func(p *corev1.Pod) bool { return status(p, name).Ready })
		if since := time.Since(status(said, name).State.Running.StartedAt.Time); since < 2*time.Second {
			t.Errorf("%s is ready %v after its start", name, since)
		}
	}
	w.await(t, pod, "thrice well", func(p *corev1.Pod) bool {
		probed := count("thrice")
		is := status(p, "thrice").Ready
		if is && probed < 3 {
			t.Errorf("ready after %d successes", probed)
		}
		return is
	})
	w.await(t, pod, "restarted by its probes and ready by others", func(p *corev1.Pod) bool {
		all := status(p, "tls").Ready && status(p, "elsewhere").Ready
		for _, name := range []string{"patient", "timeout", "http", "tcp", "grpc"} {
			all = all && status(p, name).RestartCount > 0
		}
		return all
	})
	if probed := count("patient"); probed < 3 {
		t.Errorf("restarted after %d failures", probed)
	}
	for _, says := range []string{
		`Liveness probe failed: command "/tool sleep" timed out after 1s`, "Liveness probe failed: HTTP probe failed with statuscode: 503", "connection refused",
	} {
		w.wantWarning(t, pod, "Unhealthy", says)
	}
	w.delete(t, pod, 0)
}

// hookKinds: hooks over HTTP, whatever is answered, and those that sleep; what
// comes of one that fails.
func hookKinds(t *testing.T, w *world) {
	pod := w.pod(t, "hook-kinds", `
volumes: [{name: h, hostPath: {path: DIR}}]
initContainers:
- name: server
  image: IMAGE
  restartPolicy: Always
  args: [serve, "8095", /h/requests]
  ports: [{name: web, containerPort: 8095}]
  volumeMounts: [{name: h, mountPath: /h}]
  startupProbe: {periodSeconds: 1, tcpSocket: {port: web}}
containers:
- name: asks
  image: IMAGE
  args: [sleep, /h/requests, term]
  volumeMounts: [{name: h, mountPath: /h}]
  lifecycle:
    postStart: {httpGet: {port: 8095, path: /begin, httpHeaders: [{name: Lamp, value: out}]}}
    preStop: {httpGet: {port: 8095, path: /end}}
- {name: naps, image: IMAGE, args: [sleep], lifecycle: {postStart: {sleep: {seconds: 1}}, preStop: {sleep: {seconds: 1}}}}
- {name: after, image: IMAGE, args: [sleep]}
`)
	said := w.run(t, pod, "ready", ready)
	before, after := status(said, "naps").State.Running.StartedAt, status(said, "after").State.Running.StartedAt
	if after.Sub(before.Time) < time.Second {
		t.Errorf("the container after one whose hook sleeps was started at %v, that at %v", after, before)
	}
	if took := w.delete(t, pod, 20); took < time.Second || took > 20*time.Second {
		t.Errorf("stopped after %v", took)
	}
	data, _ := os.ReadFile(w.file("requests"))
	if got := string(data); got != "/begin out kube-lifecycle/1.37\n/end  kube-lifecycle/1.37\nterm\n" {
		t.Errorf("requests: %q", got)
	}
	failing := w.pod(t, "hook-fails", `
restartPolicy: Never
containers: [{name: main, image: IMAGE, args: [sleep], lifecycle: {postStart: {exec: {command: [/tool, say, no oil, --, has, /none]}}}}]
`)
	said = w.run(t, failing, "failed", ended)
	if s := status(said, "main").State.Terminated; s == nil || s.ExitCode != 137 || said.Status.Phase != corev1.PodFailed {
		t.Errorf("pod is %s", summary(said))
	}
	w.wantWarning(t, failing, "FailedPostStartHook", "exited with code 1: no oil")
}

// hostPorts: what comes to a port of the machine reaches the container, as
// long as its pod is there.
func hostPorts(t *testing.T, w *world) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	_ = listener.Close()
	pod := w.pod(t, "host-port", strings.ReplaceAll(`
containers:
- {name: main, image: IMAGE, args: [serve, "8096"], ports: [{containerPort: 8096, hostPort: PORT}], readinessProbe: {periodSeconds: 1, tcpSocket: {port: 8096}}}
`, "PORT", fmt.Sprint(port)))
	w.run(t, pod, "ready", ready)
	ask := func() (int, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:%d/", w.flags.IP, port), nil)
		if err != nil {
			return 0, err
		}
		request.Close = true
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return 0, err
		}
		return response.StatusCode, response.Body.Close()
	}
	if code, err := ask(); code != http.StatusServiceUnavailable || err != nil {
		t.Errorf("answered %d, %v", code, err)
	}
	w.delete(t, pod, 0)
	if code, err := ask(); err == nil {
		t.Errorf("answered %d with the pod gone", code)
	}
}

// subPathStaysInside: a link in a volume does not lead a subPath out of it.
func subPathStaysInside(t *testing.T, w *world) {
	if err := os.MkdirAll(w.file("treasure"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"absolute": "/", "relative": "../../../../../../../..", "machine": w.file("treasure")} {
		pod := w.pod(t, "sub-path-"+name, strings.ReplaceAll(`
volumes: [{name: v, emptyDir: {}}]
initContainers: [{name: bad, image: IMAGE, args: [link, TARGET, /v/out], volumeMounts: [{name: v, mountPath: /v}]}]
containers: [{name: main, image: IMAGE, args: [add, /sub/taken, x, --, sleep], volumeMounts: [{name: v, mountPath: /sub, subPath: out/new}]}]
`, "TARGET", target))
		w.run(t, pod, "refused", func(p *corev1.Pod) bool {
			waits := status(p, "main").State.Waiting
			return waits != nil && waits.Reason == "CreateContainerConfigError" && strings.Contains(waits.Message, "out/new")
		})
		w.delete(t, pod, 0)
	}
	if entries, err := os.ReadDir(w.file("treasure")); err != nil || len(entries) > 0 {
		t.Errorf("made outside the volume: %v, %v", entries, err)
	}
}

// bounds: a volume in memory ends at its size, a claim that is read-only is.
func bounds(t *testing.T, w *world) {
	if err := os.MkdirAll(w.file("bounded"), 0o777); err != nil {
		t.Fatal(err)
	}
	named := func(namespace, name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: namespace, Name: name}
	}
	w.bind(
		&corev1.PersistentVolume{
			ObjectMeta: named("", "bounded"),
			Spec:       corev1.PersistentVolumeSpec{PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: w.file("bounded")}}},
		},
		&corev1.PersistentVolumeClaim{ObjectMeta: named("default", "bounded"), Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "bounded"}},
	)
	pod := w.pod(t, "bounds", `
restartPolicy: Never
volumes:
- {name: m, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
- {name: c, persistentVolumeClaim: {claimName: bounded, readOnly: true}}
containers:
- {name: memory, image: IMAGE, args: [fill, /m/x, "2"], volumeMounts: [{name: m, mountPath: /m}]}
- {name: claim, image: IMAGE, args: [add, /c/x, x], volumeMounts: [{name: c, mountPath: /c}]}
- {name: here, image: IMAGE, workingDir: /made/for/it, args: [add, x, y, --, stat, /made/for/it/x]}
`)
	w.run(t, pod, "ended", ended)
	w.wantLog(t, pod, "memory", "no space left on device")
	w.wantLog(t, pod, "claim", "read-only file system")
	w.wantLog(t, pod, "here", "/made/for/it/x: -rw")
}
