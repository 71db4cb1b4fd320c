package conformance

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/schema"
)

func volumes(t *testing.T, w *world) {
	named := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "default", Name: name} }
	files := &corev1.ConfigMap{ObjectMeta: named("files"), Data: map[string]string{"a": "one", "b": "two"}}
	w.bind(files, &corev1.Secret{ObjectMeta: named("secret-files"), Data: map[string][]byte{"s": []byte("hush")}})
	pod := w.pod(t, "volumes", `
serviceAccountName: keeper
securityContext: {fsGroup: 4321}
volumes:
- {name: map, configMap: {name: files, defaultMode: 256, items: [{key: a, path: deep/a}, {key: b, path: b, mode: 420}]}}
- {name: down, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}, {path: cpu, resourceFieldRef: {containerName: main, resource: requests.cpu, divisor: 1m}}]}}
- name: all
  projected:
    sources:
    - configMap: {name: files, items: [{key: a, path: from/map}]}
    - secret: {name: secret-files}
    - downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}
    - serviceAccountToken: {path: token, audience: lamps, expirationSeconds: 600}
- {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
- {name: host, hostPath: {path: DIR/made, type: DirectoryOrCreate}}
containers:
- name: main
  image: IMAGE
  resources: {requests: {cpu: 70m}}
  env: [{name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
  args: [stat, /map/deep/a, /map/b, /all/token, /memory, --, cat, /map/deep/a, /down/labels, /down/cpu, /all/from/map, /all/s, /all/name, /all/token,
    --, add, /sub/x, part, --, add, /expr/x, "$(POD)", --, add, /map/new, x, --, await, /map/b, three, --, await, /down/labels, night, --, await, /all/token, second, --, say, updated, --, sleep]
  volumeMounts:
  - {name: map, mountPath: /map}
  - {name: down, mountPath: /down}
  - {name: all, mountPath: /all}
  - {name: memory, mountPath: /memory}
  - {name: host, mountPath: /sub, subPath: part/of}
  - {name: host, mountPath: /expr, subPathExpr: $(POD)}
`)
	pod.Labels = map[string]string{"time": "day"}
	w.run(t, pod, "waiting for its token", func(p *corev1.Pod) bool {
		waits := status(p, "main").State.Waiting
		return waits != nil && strings.Contains(waits.Message, "token of service account default/keeper not found")
	})
	token := func(text string) {
		name := strings.TrimPrefix(schema.BindingTokensPath(w.name, pod.Namespace, pod.Name, pod.UID), schema.BindingPrefix(w.name))
		w.put(name, &corev1.Secret{ObjectMeta: named(pod.Name), Data: map[string][]byte{schema.TokenName("lamps", 600): []byte(text)}})
	}
	token("first")
	w.wantLog(t, pod, "main", "/map/deep/a: -r--r----- 0:4321\n", "/map/b: -rw-r--r-- 0:4321\n", "/all/token: -rw-r----- 0:4321\n", "/memory: dgrwxrwxrwx 0:4321\n",
		"/map/deep/a: one\n", `/down/labels: time="day"`, "/down/cpu: 70\n", "/all/from/map: one\n", "/all/s: hush\n", "/all/name: volumes\n", "/all/token: first\n", "read-only file system")
	if a, err := os.ReadFile(w.file("made/part/of/x")); string(a) != "part\n" || err != nil {
		t.Errorf("subPath: %q, %v", a, err)
	}
	if a, err := os.ReadFile(w.file("made/volumes/x")); string(a) != "volumes\n" || err != nil {
		t.Errorf("subPathExpr: %q, %v", a, err)
	}
	files = files.DeepCopy()
	files.Data["b"] = "three"
	pod = pod.DeepCopy()
	pod.Labels["time"] = "night"
	w.bind(files, pod)
	token("second")
	w.wantLog(t, pod, "main", "updated\n")
	if took := w.delete(t, pod, 0); took > 25e9 { // not the pod's own 30 s
		t.Errorf("deleted after %v", took)
	}
}

// claims: local persistent volumes, and the group that owns them.
func claims(t *testing.T, w *world) {
	place := w.file("local")
	if err := errors.Join(os.MkdirAll(filepath.Join(place, "old"), 0o700), os.WriteFile(filepath.Join(place, "old", "f"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	pod := w.pod(t, "claims", `
restartPolicy: Never
securityContext: {runAsUser: 1000, fsGroup: 77, fsGroupChangePolicy: OnRootMismatch}
volumes: [{name: v, persistentVolumeClaim: {claimName: data}}]
containers: [{name: main, image: IMAGE, args: [stat, /v/old/f, --, add, /v/new, x, --, stat, /v/new], volumeMounts: [{name: v, mountPath: /v}]}]
`)
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "data"}}
	w.bind(claim)
	w.run(t, pod, "waiting for its claim", func(p *corev1.Pod) bool {
		waits := status(p, "main").State.Waiting
		return waits != nil && strings.Contains(waits.Message, "is not bound")
	})
	claim = claim.DeepCopy()
	claim.Spec.VolumeName = "disk"
	w.bind(&corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "disk"},
		Spec:       corev1.PersistentVolumeSpec{PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: place}}},
	}, claim)
	w.await(t, pod, "ended", ended)
	w.wantLog(t, pod, "main", "/v/old/f: -rw-rw---- 0:77\n", "/v/new: -rw-r--r-- 1000:77\n")
	reader := w.pod(t, "claims-to-read", `
restartPolicy: Never
volumes: [{name: v, persistentVolumeClaim: {claimName: data, readOnly: true}}]
containers: [{name: main, image: IMAGE, args: [cat, /v/new, --, add, /v/new, y], volumeMounts: [{name: v, mountPath: /v}]}]
`)
	w.run(t, reader, "ended", ended)
	w.wantLog(t, reader, "main", "/v/new: x\n", "read-only file system")
}

func sharedNamespaces(t *testing.T, w *world) {
	pod := w.pod(t, "shared", `
shareProcessNamespace: true
containers:
- {name: a, image: IMAGE, args: [add, /dev/shm/x, from a, --, sleep]}
- {name: b, image: IMAGE, args: [await, /dev/shm/x, from a, --, ps, --, say, seen, --, sleep]}
`)
	said := w.run(t, pod, "ready", ready)
	w.wantLog(t, pod, "b", "process /init \n", "process /tool add /dev/shm/x", "seen\n")
	if len(said.Status.ContainerStatuses) != 2 {
		t.Errorf("pod is %s", summary(said))
	}
	w.delete(t, pod, 0)
}

func hostNamespaces(t *testing.T, w *world) {
	pod := w.pod(t, "host", `
restartPolicy: Never
hostPID: true
hostIPC: true
hostNetwork: true
hostAliases: [{ip: 192.0.2.1, hostnames: [far]}]
containers: [{name: main, image: IMAGE, args: [hostname, --, ps, --, cat, /etc/hosts]}]
`)
	said := w.run(t, pod, "succeeded", ended)
	w.wantLog(t, pod, "main", "process "+strings.ReplaceAll(strings.Join(os.Args, " "), "\x00", " ")[:20])
	node, err := os.ReadFile("/etc/hosts")
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(node), "\n")
	w.wantLog(t, pod, "main", "/etc/hosts: # Kubernetes-managed hosts file (host network).\n", line, "192.0.2.1\tfar\n")
	if said.Status.PodIP != w.flags.IP || said.Status.Phase != corev1.PodSucceeded {
		t.Errorf("pod IP %s: %s", said.Status.PodIP, summary(said))
	}
}
