package conformance

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// TestPods runs them all on one node, side by side.
func TestPods(t *testing.T) {
	w := start(t)
	if err := os.MkdirAll(w.file(""), 0o777); err != nil {
		t.Fatal(err)
	}
	t.Run("all", func(t *testing.T) {
		for name, test := range map[string]func(*testing.T, *world){
			"environment": environment, "names": names, "volumes": volumes, "claims": claims, "init and sidecars": initAndSidecars,
			"restarts": restarts, "restart all": restartAll, "ephemeral": ephemeral, "resize in place": inPlace, "messages": messages, "probes": probes, "liveness": liveness, "security": security,
			"refused": refused, "shared namespaces": sharedNamespaces, "host namespaces": hostNamespaces, "deadline": deadline,
			"hooks and grace": hooksAndGrace, "resources": resources, "disk limits": diskLimits, "probe fields": probeFields, "hook kinds": hookKinds,
			"host ports": hostPorts, "sub path stays inside": subPathStaysInside, "bounds": bounds, "status": exactStatus,
			"own users": ownUsers, "unmasked proc": unmaskedProc, "stop signals": stopSignals, "labels": labels,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, w)
			})
		}
	})
}

func environment(t *testing.T, w *world) {
	named := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "default", Name: name} }
	service := &corev1.Service{ObjectMeta: named("web-shop"), Spec: corev1.ServiceSpec{
		ClusterIP: "10.96.0.7", Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}},
	}}
	data, err := schema.Encode(service)
	if err != nil {
		t.Fatal(err)
	}
	w.commit(registry.Put(schema.KeyOf(service).Path(), data))
	w.bind(
		&corev1.ConfigMap{ObjectMeta: named("settings"), Data: map[string]string{"COLOUR": "red"}},
		&corev1.Secret{ObjectMeta: named("keys"), Data: map[string][]byte{"KEY": []byte("k")}},
	)
	pod := w.pod(t, "environment", `
restartPolicy: Never
serviceAccountName: keeper
volumes: [{name: v, emptyDir: {}}]
initContainers:
- {name: init, image: IMAGE, args: [add, /v/env, "FROM_FILE='yes'"], volumeMounts: [{name: v, mountPath: /v}]}
containers:
- name: main
  image: IMAGE
  args: [env, --, say, "args $(SUM) $(WEB_SHOP_SERVICE_PORT) $(NONE) $$(SUM)"]
  resources: {requests: {cpu: 250m, memory: 32Mi}, limits: {cpu: "1"}}
  envFrom: [{prefix: C_, configMapRef: {name: settings}}, {configMapRef: {name: none, optional: true}}]
  env:
  - {name: SUM, value: "$(C_COLOUR)-$(WEB_SHOP_SERVICE_HOST)-$(LATER)"}
  - {name: LATER, value: x}
  - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
  - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
  - {name: HOST_IP, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}
  - {name: ACCOUNT, valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}}
  - {name: CPU, valueFrom: {resourceFieldRef: {resource: requests.cpu, divisor: 1m}}}
  - {name: CPU_LIMIT, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}
  - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: requests.memory, divisor: 1Mi}}}
  - {name: SECRET, valueFrom: {secretKeyRef: {name: keys, key: KEY}}}
  - {name: OPTIONAL, valueFrom: {secretKeyRef: {name: keys, key: none, optional: true}}}
  - {name: FILE, valueFrom: {fileKeyRef: {volumeName: v, path: env, key: FROM_FILE}}}
`)
	said := w.run(t, pod, "succeeded", ended)
	w.wantLog(t, pod, "main", "\nSUM=red-10.96.0.7-$(LATER)\n", "\nPOD_NAME=environment\n", "\nPOD_IP="+said.Status.PodIP+"\n", "\nHOST_IP="+w.flags.IP+"\n",
		"\nACCOUNT=keeper\n", "\nCPU=250\n", "\nCPU_LIMIT=1\n", "\nMEMORY=32\n", "\nSECRET=k\n", "\nFILE=yes\n", "\nWEB_SHOP_PORT_80_TCP=tcp://10.96.0.7:80\n",
		"\nWEB_SHOP_SERVICE_PORT_HTTP=80\n", "\nargs red-10.96.0.7-$(LATER) 80 $(NONE) $(SUM)\n")
	if strings.Contains(w.log(t, pod, "main"), "OPTIONAL=") {
		t.Error("an optional variable that is missing is set")
	}
}

func names(t *testing.T, w *world) {
	pod := w.pod(t, "names", `
restartPolicy: Never
hostname: lamp
subdomain: house
setHostnameAsFQDN: true
hostAliases: [{ip: 192.0.2.1, hostnames: [far, away]}]
dnsConfig: {nameservers: [192.0.2.53], searches: [example.com], options: [{name: ndots, value: "2"}]}
containers: [{name: main, image: IMAGE, args: [hostname, --, cat, /etc/hosts, /etc/resolv.conf, /etc/hostname]}]
`)
	said := w.run(t, pod, "succeeded", ended)
	w.wantLog(t, pod, "main", "hostname lamp.house.default.svc.cluster.local\n", said.Status.PodIP+"\tlamp.house.default.svc.cluster.local\tlamp\n",
		"192.0.2.1\tfar\taway\n", "nameserver 10.0.0.10\nnameserver 192.0.2.53\n", "search default.svc.cluster.local svc.cluster.local cluster.local", "example.com", "options ndots:2")
	override := w.pod(t, "override", `
restartPolicy: Never
hostnameOverride: over.example.com
containers: [{name: main, image: IMAGE, args: [hostname]}]
`)
	w.run(t, override, "succeeded", ended)
	w.wantLog(t, override, "main", "hostname over.example.com\n")
}

func initAndSidecars(t *testing.T, w *world) {
	pod := w.pod(t, "sidecars", `
restartPolicy: Never
volumes: [{name: h, hostPath: {path: DIR, type: Directory}}]
initContainers:
- {name: first, image: IMAGE, args: [add, /h/order, first], volumeMounts: [{name: h, mountPath: /h}]}
- name: one
  image: IMAGE
  restartPolicy: Always
  args: [add, /h/order, one, --, once, /h/crashed, "3", --, sleep, /h/order, one stopped, /h/sleeps]
  volumeMounts: [{name: h, mountPath: /h}]
  startupProbe: {exec: {command: [/tool, has, /h/sleeps]}, periodSeconds: 1, timeoutSeconds: 9, failureThreshold: 9}
- name: two
  image: IMAGE
  restartPolicy: Always
  args: [sleep, /h/order, two stopped, /h/two]
  volumeMounts: [{name: h, mountPath: /h}]
  startupProbe: {exec: {command: [/tool, has, /h/two]}, periodSeconds: 1, timeoutSeconds: 9, failureThreshold: 9}
- {name: last, image: IMAGE, args: [add, /h/order, last], volumeMounts: [{name: h, mountPath: /h}]}
containers: [{name: main, image: IMAGE, args: [add, /h/order, main], volumeMounts: [{name: h, mountPath: /h}]}]
`)
	said := w.run(t, pod, "succeeded", ended)
	data, _ := os.ReadFile(w.file("order"))
	if diff := cmp.Diff("first\none\none\nlast\nmain\ntwo stopped\none stopped\n", string(data)); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	if c := status(said, "one"); said.Status.Phase != corev1.PodSucceeded || c.RestartCount != 1 {
		t.Errorf("pod is %s", summary(said))
	}
	failing := w.pod(t, "failing-init", `
restartPolicy: Never
initContainers: [{name: side, image: IMAGE, restartPolicy: Always, args: [sleep]}, {name: bad, image: IMAGE, args: [exit, "4"]}]
containers: [{name: main, image: IMAGE, args: [sleep]}]
`)
	said = w.run(t, failing, "failed", ended)
	if c := status(said, "bad"); said.Status.Phase != corev1.PodFailed || c.State.Terminated.ExitCode != 4 || status(said, "main").State.Waiting.Reason != "PodInitializing" {
		t.Errorf("pod is %s", summary(said))
	}
}

func restarts(t *testing.T, w *world) {
	pod := w.pod(t, "restarts", `
restartPolicy: OnFailure
volumes: [{name: v, emptyDir: {}}]
containers:
- {name: fails, image: IMAGE, args: [once, /v/a, "7"], volumeMounts: [{name: v, mountPath: /v}]}
- name: ruled
  image: IMAGE
  args: [once, /v/b, "42"]
  restartPolicy: Never
  restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [42]}}]
  volumeMounts: [{name: v, mountPath: /v}]
- {name: done, image: IMAGE, args: [say, done]}
`)
	said := w.run(t, pod, "succeeded", ended)
	for name, code := range map[string]int32{"fails": 7, "ruled": 42} {
		c := status(said, name)
		last := c.LastTerminationState.Terminated
		if c.RestartCount != 1 || last == nil || last.ExitCode != code || last.Reason != "Error" || c.State.Terminated.Reason != "Completed" {
			t.Errorf("%s: %s", name, summary(said))
		}
	}
	if c := status(said, "done"); c.RestartCount != 0 || said.Status.Phase != corev1.PodSucceeded {
		t.Errorf("pod is %s", summary(said))
	}
	loop := w.pod(t, "loop", `containers: [{name: main, image: IMAGE, args: [exit, "1"]}]`)
	said = w.run(t, loop, "in a crash loop", func(p *corev1.Pod) bool {
		state := status(p, "main").State.Waiting
		return state != nil && state.Reason == "CrashLoopBackOff"
	})
	if c := status(said, "main"); c.RestartCount != 1 || said.Status.Phase != corev1.PodRunning {
		t.Errorf("pod is %s", summary(said))
	}
}

func restartAll(t *testing.T, w *world) {
	pod := w.pod(t, "restart-all", `
restartPolicy: Never
volumes: [{name: v, emptyDir: {}}]
initContainers: [{name: init, image: IMAGE, args: [say, init]}]
containers:
- name: cause
  image: IMAGE
  args: [once, /v/a, "9", --, sleep]
  restartPolicy: Never
  restartPolicyRules: [{action: RestartAllContainers, exitCodes: {operator: In, values: [9]}}]
  volumeMounts: [{name: v, mountPath: /v}]
- {name: other, image: IMAGE, args: [sleep]}
`)
	said := w.run(t, pod, "started anew", func(p *corev1.Pod) bool {
		return ready(p) && status(p, "cause").RestartCount == 1 && status(p, "other").RestartCount == 1 && status(p, "init").RestartCount == 1
	})
	if said.Status.Phase != corev1.PodRunning {
		t.Errorf("pod is %s", summary(said))
	}
}

func messages(t *testing.T, w *world) {
	pod := w.pod(t, "messages", `
restartPolicy: Never
containers:
- {name: file, image: IMAGE, args: [add, /dev/termination-log, from the file, --, exit, "1"]}
- {name: tail, image: IMAGE, args: [say, from the log, --, exit, "1"], terminationMessagePolicy: FallbackToLogsOnError}
- {name: well, image: IMAGE, args: [say, nothing], terminationMessagePolicy: FallbackToLogsOnError}
- {name: hungry, image: IMAGE, args: [eat], resources: {limits: {memory: 32Mi}}}
`)
	said := w.run(t, pod, "failed", ended)
	for name, want := range map[string]string{"file": "1 Error from the file\n", "tail": "1 Error from the log\n", "well": "0 Completed ", "hungry": "137 OOMKilled "} {
		s := status(said, name).State.Terminated
		if got := strings.Join([]string{json.Number(jsonOf(s.ExitCode)).String(), s.Reason, s.Message}, " "); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func jsonOf(v any) string {
	data, _ := json.Marshal(v)
	return string(data)
}

func deadline(t *testing.T, w *world) {
	pod := w.pod(t, "deadline", `
activeDeadlineSeconds: 2
terminationGracePeriodSeconds: 1
containers: [{name: main, image: IMAGE, args: [stubborn]}]
`)
	began := time.Now()
	said := w.run(t, pod, "failed", ended)
	if s := said.Status; s.Phase != corev1.PodFailed || s.Reason != "DeadlineExceeded" || time.Since(began) < 2*time.Second {
		t.Errorf("after %v: %s", time.Since(began), summary(said))
	}
}

func hooksAndGrace(t *testing.T, w *world) {
	pod := w.pod(t, "hooks", `
volumes: [{name: h, hostPath: {path: DIR}}]
containers:
- name: main
  image: IMAGE
  args: [sleep, /h/hooks, term]
  volumeMounts: [{name: h, mountPath: /h}]
  lifecycle: {postStart: {exec: {command: [/tool, add, /h/hooks, post]}}, preStop: {exec: {command: [/tool, add, /h/hooks, pre]}}}
- {name: stubborn, image: IMAGE, args: [stubborn]}
`)
	w.run(t, pod, "ready", ready)
	w.wantLog(t, pod, "stubborn", "stubborn\n")
	if took := w.delete(t, pod, 2); took < 2*time.Second || took > 25*time.Second { // not the pod's own 30 s
		t.Errorf("stopped after %v", took)
	}
	if data, err := os.ReadFile(w.file("hooks")); string(data) != "post\npre\nterm\n" {
		t.Errorf("hooks: %q, %v", data, err)
	}
	if _, err := os.Stat(filepath.Join(w.dir, "d", "pods", w.name, string(pod.UID))); err == nil {
		t.Error("its volumes are left")
	}
}
