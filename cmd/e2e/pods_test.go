package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/evenkeel/evenkeel/testdata/images"
)

const lab = "lab" // namespace

// labYAML is a pod with one of each thing that a pod can be given, a service
// before it and a pod that asks.
const labYAML = `
apiVersion: v1
kind: Namespace
metadata: {name: lab}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: lab}
data:
  greeting: good day
  motto.txt: from the config map
---
apiVersion: v1
kind: Secret
metadata: {name: keys, namespace: lab}
stringData:
  password: from the secret
---
apiVersion: v1
kind: Service
metadata: {name: echo, namespace: lab}
spec:
  type: NodePort
  selector: {app: echo}
  ports:
    - {name: http, port: 80, targetPort: http}
    - {name: tcp, port: 9000, nodePort: 30900}
    - {name: udp, port: 9000, nodePort: 30900, protocol: UDP}
---
apiVersion: v1
kind: Pod
metadata:
  name: echo
  namespace: lab
  labels: {app: echo}
spec:
  terminationGracePeriodSeconds: 1
  initContainers:
    - name: first
      image: evenkeel.io/echo:1
      env:
        - {name: WRITE, value: /scratch/note=from the init container}
      volumeMounts:
        - {name: scratch, mountPath: /scratch}
  containers:
    - name: echo
      image: evenkeel.io/echo:1
      ports:
        - {name: http, containerPort: 8080}
      readinessProbe:
        httpGet: {path: /healthz, port: http}
        periodSeconds: 1
      env:
        - name: GREETING
          valueFrom: {configMapKeyRef: {name: settings, key: greeting}}
        - name: PASSWORD
          valueFrom: {secretKeyRef: {name: keys, key: password}}
        - name: POD_IP
          valueFrom: {fieldRef: {fieldPath: status.podIP}}
        - {name: SALUTE, value: "$(GREETING) to $(POD_IP)"}
      volumeMounts:
        - {name: scratch, mountPath: /scratch}
        - {name: settings, mountPath: /settings}
        - {name: keys, mountPath: /keys}
        - {name: host, mountPath: /host}
    - name: beside
      image: evenkeel.io/echo:1
      readinessProbe:
        httpGet: {path: /healthz, port: 8081}
        periodSeconds: 1
      env:
        - {name: HTTP_PORT, value: "8081"}
        - {name: TCP_PORT, value: "9001"}
        - {name: UDP_PORT, value: "9001"}
  volumes:
    - {name: scratch, emptyDir: {}}
    - {name: settings, configMap: {name: settings}}
    - {name: keys, secret: {secretName: keys}}
    - {name: host, hostPath: {path: HOSTDIR}}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: lab}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - {name: echo, image: "evenkeel.io/echo:1", readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}}
`

// TestPods runs pods with all they can be given, and pods that something
// keeps from running, from commits in a worktree.
func TestPods(t *testing.T) {
	require(t)
	t.Parallel()
	s := startSite(t, false, func(r repo) {
		shared := filepath.Join(filepath.Dir(r.dir), "shared")
		if err := os.MkdirAll(shared, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(shared, "note"), []byte("from the host"), 0o644); err != nil {
			t.Fatal(err)
		}
		r.write("lab.yaml", strings.ReplaceAll(labYAML, "HOSTDIR", shared))
	})
	l := laboratory{s}
	s.step("all given things")
	l.given()
	s.step("names and ports")
	l.names()
	l.ports()
	s.step("a container starts again")
	l.startsAgain()
	s.step("a container that fails")
	l.failing()
	s.step("a pod that does not fit")
	l.crowded()
	s.step("an image that is not there")
	l.imageMissing()
	s.promptly()
}

type laboratory struct{ *site }

func (l laboratory) podIP(name string) string { return l.cluster.pod(lab, name).Status.PodIP }

func (l laboratory) given() {
	l.t.Logf("all ready after %v", l.cluster.ready())
	echo := l.podIP("echo")
	env, err := get(l.host.ns, "http://"+echo+":8080/env")
	if err != nil {
		l.t.Fatal(err)
	}
	for _, want := range []string{"GREETING=good day", "PASSWORD=from the secret", "POD_IP=" + echo, "SALUTE=good day to " + echo} {
		if !strings.Contains("\n"+env, "\n"+want+"\n") {
			l.t.Errorf("environment lacks %s:\n%s", want, env)
		}
	}
	files := map[string]string{
		"/settings/motto.txt": "from the config map", "/keys/password": "from the secret",
		"/scratch/note": "from the init container", "/host/note": "from the host",
	}
	got := map[string]string{}
	for path := range files {
		if got[path], err = from(l.host.ns, echo, "cat", "path", path); err != nil {
			l.t.Error(err)
		}
	}
	if diff := cmp.Diff(files, got); diff != "" {
		l.t.Errorf("files (-want +got):\n%s", diff)
	}
	if name, err := from(l.host.ns, echo, "dial", "url", "http://127.0.0.1:8081/"); err != nil || name != "echo\n" {
		l.t.Errorf("container beside answers %q on loopback, %v", name, err)
	}
}

// names asks for the service by its names, in a pod.
func (l laboratory) names() {
	client, clusterIP := l.podIP("client"), l.cluster.service(lab, "echo").Spec.ClusterIP
	for _, name := range []string{"echo", "echo.lab", "echo.lab.svc", "echo.lab.svc.cluster.local"} {
		if got, err := from(l.host.ns, client, "lookup", "name", name); err != nil || got != clusterIP+"\n" {
			l.t.Errorf("%s is %q in a pod, want %s: %v", name, got, clusterIP, err)
		}
		eventually(l.t, patience, name, func() error {
			got, err := from(l.host.ns, client, "dial", "url", "http://"+name+"/")
			if err == nil && got != "echo\n" {
				err = fmt.Errorf("%q answers", got)
			}
			return err
		})
	}
	if got, err := from(l.host.ns, client, "lookup", "name", "nobody.lab"); err == nil {
		l.t.Errorf("nobody.lab is %q", got)
	}
}

// ports reaches the service over TCP and UDP from a pod, the node and outside,
// and by itself.
func (l laboratory) ports() {
	clusterIP := l.cluster.service(lab, "echo").Spec.ClusterIP
	const want = "echo hello\n"
	for _, network := range []string{"tcp", "udp"} {
		for _, pod := range []string{"client", "echo"} {
			if got, err := from(l.host.ns, l.podIP(pod), "dial", "url", network+"://echo:9000"); err != nil || got != want {
				l.t.Errorf("%s from pod %s: %q, %v", network, pod, got, err)
			}
		}
		if got, err := ask(l.host.ns, network, clusterIP+":9000"); err != nil || got != want {
			l.t.Errorf("%s on the node: %q, %v", network, got, err)
		}
		if got, err := ask(l.host.ns, network, l.host.ip+":30900"); err != nil || got != want {
			l.t.Errorf("%s to the node's own port: %q, %v", network, got, err)
		}
		if got, err := ask(l.hub, network, l.host.ip+":30900"); err != nil || got != want {
			l.t.Errorf("%s from outside: %q, %v", network, got, err)
		}
	}
}

// startsAgain kills what runs in a pod: its address and what it keeps in its
// volumes stay.
func (l laboratory) startsAgain() {
	pod := l.cluster.pod(lab, "echo")
	l.host.killProcesses(pod)
	eventually(l.t, patience, "both containers started again", func() error {
		now := l.cluster.pod(lab, "echo")
		if restarts(now) != 2 || !isReady(now) || now.UID != pod.UID || now.Status.PodIP != pod.Status.PodIP {
			return fmt.Errorf("%d restarts, ready %v", restarts(now), isReady(now))
		}
		return nil
	})
	if note, err := from(l.host.ns, pod.Status.PodIP, "cat", "path", "/scratch/note"); err != nil || note != "from the init container" {
		l.t.Errorf("note is %q, %v", note, err)
	}
}

// barePod is the manifest of an echo pod with more in its container.
func barePod(name, image, more string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: lab}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: main
      image: %s
%s`, name, image, more)
}

// reason waits until `reconcile status` gives words as the reason why a pod is
// not ready.
func (l laboratory) reason(pod string, words ...string) {
	l.t.Helper()
	took := eventually(l.t, patience, "reason for "+pod, func() error {
		got := l.cluster.object("Pod", lab+"/"+pod)
		for _, word := range words {
			if got.Ready || !strings.Contains(got.Reason, word) {
				return fmt.Errorf("it is ready %v, %q, want %q", got.Ready, got.Reason, words)
			}
		}
		return nil
	})
	l.t.Logf("status says after %v: %s", took, l.cluster.object("Pod", lab+"/"+pod).Reason)
	for _, o := range l.host.statusJSON().Objects {
		if o.FullName() == lab+"/"+pod && o.Kind == "Pod" && o.Reason == "" {
			l.t.Errorf("status gives no reason for %s", pod)
		}
	}
}

func (l laboratory) failing() {
	l.repo.write("failing.yaml", barePod("failing", echoImage, "      env: [{name: EXIT_CODE, value: \"3\"}]\n"))
	l.apply("a pod that fails")
	l.reason("failing", "CrashLoopBackOff", "exit code 3")
	l.remove("failing.yaml", "failing")
}

// remove removes a file, and waits until its pod is gone.
func (l laboratory) remove(file, pod string) {
	l.t.Helper()
	if err := os.Remove(filepath.Join(l.repo.dir, file)); err != nil {
		l.t.Fatal(err)
	}
	l.apply("remove " + file)
	eventually(l.t, patience, pod+" gone", func() error {
		for _, p := range l.cluster.pods(lab, "") {
			if p.Name == pod {
				return fmt.Errorf("it is %s", p.Status.Phase)
			}
		}
		return nil
	})
}

// crowded asks for more than the node has: what does not fit waits for room.
func (l laboratory) crowded() {
	most := fmt.Sprintf("      resources: {requests: {cpu: %dm}}\n", runtime.NumCPU()*600)
	l.repo.write("big.yaml", barePod("big", echoImage, most))
	l.apply("a big pod")
	l.cluster.ready()
	l.repo.write("bigger.yaml", barePod("bigger", echoImage, most))
	l.apply("another big pod")
	l.reason("bigger", "0/1 nodes are available", "1 Insufficient cpu")
	l.remove("big.yaml", "big")
	l.t.Logf("placed %v after room appeared", l.cluster.ready())
}

func (l laboratory) imageMissing() {
	const late = "evenkeel.io/late:1"
	l.repo.write("late.yaml", barePod("late", late, "      imagePullPolicy: IfNotPresent\n"))
	l.apply("a pod without an image")
	l.reason("late", "Image", late)
	src := filepath.Join(root, "testdata", "echo", "src")
	if err := images.Build(l.t.Context(), src, late, filepath.Join(l.host.images(), "late.tar")); err != nil {
		l.t.Fatal(err)
	}
	l.t.Logf("runs %v after its image came", l.cluster.ready())
}
