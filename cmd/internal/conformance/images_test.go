package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/testdata/images"
)

// store is a node and the registry that it pulls from.
type store struct {
	*world
	*shelf
	tool v1.Image
}

// TestImages runs pods whose images, and whose volumes' images, only a
// registry has.
func TestImages(t *testing.T) {
	need(t)
	dir := place(t)
	s := store{shelf: newShelf(t)}
	certs := filepath.Join(dir, "certs.d")
	s.configure(t, certs)
	s.world = startIn(t, dir, "--registry-config", certs, "--max-parallel-pulls", "2")
	tool, err := images.Image(t.Context(), "testdata/tool", images.Options{User: "0", Files: map[string][]byte{"/model/weights": []byte("heavy"), "/model/by/name": []byte("x")}})
	if err != nil {
		t.Fatal(err)
	}
	s.tool = tool
	t.Run("all", func(t *testing.T) {
		for name, test := range map[string]func(*testing.T, store){
			"pull secrets": pullSecrets, "account": accountSecrets, "wrong secret": wrongSecret, "pull policies": pullPolicies, "image volumes": imageVolumes,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, s)
			})
		}
	})
	t.Run("parallel pulls", func(t *testing.T) { parallelPulls(t, s) })
	t.Run("agent dies", func(t *testing.T) { agentDies(t, s) })
}

// saying is the tool that says something when nothing else is asked of it.
func (s store) saying(t *testing.T, text string) v1.Image {
	t.Helper()
	config, err := s.tool.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.Config.Cmd = []string{"say", text}
	img, err := mutate.ConfigFile(s.tool, config)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// waits reports whether a container waits for a reason, with a message that
// says all of some things.
func waits(container, reason string, says ...string) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool {
		state := status(p, container).State.Waiting
		if state == nil || state.Reason != reason {
			return false
		}
		for _, text := range says {
			if !strings.Contains(state.Message, text) {
				return false
			}
		}
		return true
	}
}

// pullSecrets: an image that a pod pulled with its secret is there for those
// who have the secret, and for nobody else (Kubernetes: "Ensure secret pulled
// images"; NeverVerifyPreloadedImages is what all other tests' image shows).
func pullSecrets(t *testing.T, s store) {
	s.Push(t, "private/a", "1", s.saying(t, "opened"))
	const spec = "restartPolicy: Never\ncontainers: [{name: main, image: " + hub + "/private/a:1, imagePullPolicy: POLICY}]\n"
	with := func(policy string) string { return strings.Replace(spec, "POLICY", policy, 1) }
	s.bind(keys("open", "light"))
	owner := s.pod(t, "has-secret", "imagePullSecrets: [{name: open}]\n"+with("IfNotPresent"))
	s.run(t, owner, "ended", ended)
	s.wantLog(t, owner, "main", "opened\n")
	stranger := s.pod(t, "has-none", with("IfNotPresent"))
	s.run(t, stranger, "refused", waits("main", "ImagePullBackOff", "ErrImagePull", "name a secret that has them in the pod's imagePullSecrets"))
	s.wantWarning(t, stranger, "Failed: ", "Failed to pull image", "imagePullSecrets")
	never := s.pod(t, "never", with("Never"))
	s.run(t, never, "refused", waits("main", "ErrImageNeverPull"))
	before := len(s.Seen("/private/a/blobs/"))
	again := s.pod(t, "has-it-too", "imagePullSecrets: [{name: open}]\n"+with("Never"))
	s.run(t, again, "ended", ended)
	if n := len(s.Seen("/private/a/blobs/")); n != before {
		t.Errorf("%d blobs were fetched again", n-before)
	}
	for _, pod := range []*corev1.Pod{stranger, never} {
		s.delete(t, pod, 0)
	}
}

// accountSecrets: a pod that names no secret has those of its service account.
func accountSecrets(t *testing.T, s store) {
	s.Push(t, "private/b", "1", s.saying(t, "opened by the account"))
	s.bind(keys("of-account", "light"))
	all := registry.New(s.store, registry.Config{ServiceAccounts: true})
	no := false
	for _, obj := range []schema.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}},
		&corev1.ServiceAccount{
			ObjectMeta:       metav1.ObjectMeta{Namespace: "default", Name: "puller"},
			ImagePullSecrets: []corev1.LocalObjectReference{{Name: "of-account"}}, AutomountServiceAccountToken: &no,
		},
	} {
		if _, err := all.Create(t.Context(), obj); err != nil {
			t.Fatal(err)
		}
	}
	pod := s.pod(t, "account", "restartPolicy: Never\nserviceAccountName: puller\ncontainers: [{name: main, image: "+hub+"/private/b:1}]\n")
	pod.UID, pod.Spec.NodeName = "", ""
	created, err := all.Create(t.Context(), pod)
	if err != nil {
		t.Fatal(err)
	}
	pod = created.(*corev1.Pod).DeepCopy()
	pod.UID, pod.Spec.NodeName, pod.ResourceVersion = types.UID(s.name+"-account"), s.name, ""
	s.run(t, pod, "ended", ended)
	s.wantLog(t, pod, "main", "opened by the account\n")
}

// wrongSecret: the pod is told, is left alone for a while, and starts at once
// when the secret is right.
func wrongSecret(t *testing.T, s store) {
	s.Push(t, "private/c", "1", s.saying(t, "at last"))
	s.bind(keys("wrong", "dark"))
	pod := s.pod(t, "wrong-secret", "restartPolicy: Never\nimagePullSecrets: [{name: wrong}]\ncontainers: [{name: main, image: "+hub+"/private/c:1}]\n")
	s.run(t, pod, "refused", waits("main", "ErrImagePull", "the registry does not take the credentials: check the pod's imagePullSecrets"))
	s.wantWarning(t, pod, "Failed: ", "does not take the credentials")
	s.await(t, pod, "left alone", waits("main", "ImagePullBackOff", "Back-off pulling image"))
	began := time.Now()
	s.bind(keys("wrong", "light"))
	s.until(t, func() bool { return len(s.Seen("GET /v2/private/c/blobs/")) > 0 }, func() string {
		return fmt.Sprintf("never pulled: %q", s.Seen("/private/c/"))
	})
	if took := time.Since(began); took > 7*time.Second { // it would be tried again after 10 s
		t.Errorf("pulled %v after its secret was right", took)
	}
	s.await(t, pod, "ended", ended)
	s.wantLog(t, pod, "main", "at last\n")
}

// pullPolicies: a tag that has moved is seen by Always and not by IfNotPresent,
// and never by a digest.
func pullPolicies(t *testing.T, s store) {
	first := s.Push(t, "lamp", "1", s.saying(t, "first"))
	ran := func(name, image, policy, says, digest string) {
		t.Helper()
		pod := s.pod(t, name, fmt.Sprintf("restartPolicy: Never\ncontainers: [{name: main, image: %q, imagePullPolicy: %s}]\n", image, policy))
		said := s.run(t, pod, "ended", ended)
		s.wantLog(t, pod, "main", says+"\n")
		if id := status(said, "main").ImageID; !strings.Contains(id, digest) {
			t.Errorf("%s: imageID %q, want digest %s", name, id, digest)
		}
	}
	const tag = hub + "/lamp:1"
	ran("first", tag, "Always", "first", first)
	second := s.Push(t, "lamp", "1", s.saying(t, "second"))
	ran("not-moved", tag, "IfNotPresent", "first", first)
	ran("moved", tag, "Always", "second", second)
	ran("pinned", hub+"/lamp@"+first, "IfNotPresent", "first", first)
	pod := s.pod(t, "absent", "containers: [{name: main, image: "+hub+"/none:1, imagePullPolicy: Never}]\n")
	s.run(t, pod, "refused", waits("main", "ErrImageNeverPull", "its pull policy is Never"))
	s.delete(t, pod, 0)
}

// imageVolumes: an image's files are read-only and run nothing, wholly or in
// part; it is pulled with the pod's secret, and what it was it is until the pod
// goes.
func imageVolumes(t *testing.T, s store) {
	s.Push(t, "private/model", "1", s.tool)
	s.bind(keys("model", "light"))
	pod := s.pod(t, "image-volumes", `
imagePullSecrets: [{name: model}]
securityContext: {fsGroup: 77}
volumes: [{name: m, image: {reference: `+hub+`/private/model:1}}]
containers:
- name: main
  image: IMAGE
  env: [{name: PART, value: by/name}]
  args: [cat, /m/model/weights, /part/weights, /file, --, stat, /m/model/weights, --, add, /m/x, y, --, run, /m/tool, --, sleep]
  volumeMounts: [{name: m, mountPath: /m}, {name: m, mountPath: /part, subPath: model}, {name: m, mountPath: /file, subPathExpr: model/$(PART)}]
- {name: wrong, image: IMAGE, args: [sleep], volumeMounts: [{name: m, mountPath: /m, subPath: none}]}
`)
	s.run(t, pod, "told of a path that is not there", waits("wrong", "CreateContainerConfigError", `subPath "none": there is no such path in the volume, which is read-only`))
	s.wantLog(t, pod, "main", "/m/model/weights: heavy\n", "/part/weights: heavy\n", "/file: x\n", "/m/model/weights: -rw-r--r-- 0:0\n", "/m/x: read-only file system", "/m/tool: permission denied")
	if _, err := os.Stat(filepath.Join(s.dir, "d", "pods", s.name, string(pod.UID), "volumes", "m", "model", "weights")); err != nil {
		t.Error(err)
	}
	s.delete(t, pod, 0)
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || strings.Contains(string(mounts), string(pod.UID)) {
		t.Errorf("mounts are left: %v\n%s", err, mounts)
	}
	absent := s.pod(t, "image-volume-absent", `
volumes: [{name: m, image: {reference: `+hub+`/private/model:1}}, {name: n, image: {reference: `+hub+`/none:1, pullPolicy: Never}}]
containers:
- {name: a, image: IMAGE, args: [sleep], volumeMounts: [{name: m, mountPath: /m}]}
- {name: b, image: IMAGE, args: [sleep], volumeMounts: [{name: n, mountPath: /n}]}
- {name: c, image: IMAGE, args: [sleep]}
`)
	s.run(t, absent, "refused", func(p *corev1.Pod) bool {
		return waits("a", "ImagePullBackOff", "imagePullSecrets")(p) && waits("b", "ErrImageNeverPull")(p) && status(p, "c").State.Running != nil
	})
	s.delete(t, absent, 0)
}

// parallelPulls: two images come at once, the third waits and says so.
func parallelPulls(t *testing.T, s store) {
	goOn := s.hold(t, "/v2/parallel-", 0)
	var pods []*corev1.Pod
	for i := range 3 {
		repository := fmt.Sprintf("parallel-%d", i)
		s.Push(t, repository, "slow", s.saying(t, repository))
		pods = append(pods, s.pod(t, repository, "restartPolicy: Never\ncontainers: [{name: main, image: "+hub+"/"+repository+":slow}]\n"))
	}
	s.bind(pods[0], pods[1])
	s.until(t, func() bool { return len(s.Seen("GET /v2/parallel-")) == 2 }, func() string {
		return fmt.Sprintf("two pulls at once: %q", s.Seen("/v2/parallel-"))
	})
	s.run(t, pods[2], "waiting for others", waits("main", "ContainerCreating", "Pulling: waits for other pulls"))
	if asked := s.Seen("/v2/parallel-2/"); len(asked) > 0 {
		t.Errorf("three pulls at once: %q", asked)
	}
	goOn()
	for _, pod := range pods {
		s.await(t, pod, "ended", ended)
	}
}

// agentDies: a pull that the agent does not live to see goes on where it was
// when the next agent comes; a pod with an image as a volume runs on meanwhile,
// until the node is removed.
func agentDies(t *testing.T, s store) {
	s.Push(t, "model", "1", s.tool)
	witness := s.pod(t, "witness", `
volumes: [{name: m, image: {reference: `+hub+`/model:1}}]
containers: [{name: main, image: IMAGE, args: [sleep], volumeMounts: [{name: m, mountPath: /m}]}]
`)
	before := stable(s.run(t, witness, "ready", ready))

	layer, err := random.Layer(8<<20, "application/vnd.docker.image.rootfs.diff.tar.gzip")
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(s.saying(t, "resumed"), layer)
	if err != nil {
		t.Fatal(err)
	}
	s.Push(t, "large", "1", img)
	blob, after := heldAt(t, img, 62)
	goOn := s.hold(t, "/large/blobs/"+blob, after)
	pod := s.pod(t, "large", "restartPolicy: Never\ncontainers: [{name: main, image: "+hub+"/large:1}]\n")
	s.run(t, pod, "pulling", waits("main", "ContainerCreating", "Pulling 62 %"))
	s.end()
	goOn()
	s.launch()
	s.await(t, pod, "ended", ended)
	s.wantLog(t, pod, "main", "resumed\n")
	if asked := s.Seen("GET /v2/large/blobs/" + blob + " bytes="); len(asked) == 0 {
		t.Errorf("the pull began anew: %q", s.Seen("/large/"))
	}
	if after := stable(s.await(t, witness, "known", ready)); after != before {
		t.Errorf("the pod that ran was %s, and is %s", before, after)
	}
}

// heldAt is an image's last layer, and how much of it makes some percent of
// the image.
func heldAt(t *testing.T, img v1.Image, percent int64) (blob string, after int) {
	t.Helper()
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	others, total := manifest.Config.Size, manifest.Config.Size
	for i, layer := range manifest.Layers {
		total += layer.Size
		if i < len(manifest.Layers)-1 {
			others += layer.Size
		}
	}
	return manifest.Layers[len(manifest.Layers)-1].Digest.String(), int(total*percent/100 + total/200 - others)
}
