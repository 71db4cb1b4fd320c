package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	toolboxImage = "evenkeel.io/toolbox:1"

	// kubernetes is the version of what we build on; kubectl has to be of it.
	kubernetes = "v1.37.2"
)

// toolboxLinks are the names by which pods call what is in the toolbox.
var toolboxLinks = []string{"/api", "/cat", "/env", "/exit", "/ps", "/tar", "/terminal", "/test"}

// buildKubectl says where a kubectl of our version is, and builds one if make
// did not.
func buildKubectl(ctx context.Context, base string) (string, error) {
	if path := os.Getenv("KUBECTL"); path != "" {
		return path, nil
	}
	path, err := filepath.Abs(filepath.Join(root, ".build", "tools", "kubectl"))
	if err != nil || exists(path) {
		return path, err
	}
	path = filepath.Join(base, "kubectl")
	version := "-X k8s.io/component-base/version.gitVersion=" + kubernetes
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "-ldflags=-s -w "+version, "k8s.io/kubernetes/cmd/kubectl")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build kubectl: %w\n%s", err, out)
	}
	return path, nil
}

// TestKubectl runs what people type, on a cluster that serves it all: each
// script in a namespace of its own, and all of them at once.
func TestKubectl(t *testing.T) {
	require(t)
	t.Parallel()
	k := startKubectl(t)
	k.scripts(t, "testdata/kubectl")
}

// TestKubectlAlone runs scripts that the whole cluster feels, on one where
// what git declares cannot be changed through the API.
func TestKubectlAlone(t *testing.T) {
	require(t)
	t.Parallel()
	k := startKubectl(t, "--api-writes=deny")
	k.scripts(t, "testdata/kubectl-alone")
}

// kubectl is a cluster that scripts use through kubectl.
type kubectl struct {
	*site
	bin    string // directory of a kubectl that runs on the host
	commit string
}

// startKubectl starts a cluster with a shop, and one node that is ready.
func startKubectl(t *testing.T, flags ...string) *kubectl {
	t.Helper()
	s := startSite(t, false, func(r repo) { r.write("shop.yaml", shopManifests) }, flags...)
	s.host.addImage("toolbox")
	s.cluster.ready()
	eventually(t, patience, "toolbox loaded", func() error {
		if !strings.Contains(s.up.output(), toolboxImage) {
			return errors.New("it is not in the log")
		}
		return nil
	})
	k := &kubectl{site: s, bin: filepath.Join(s.dir, "bin"), commit: s.repo.git("rev-parse", "--short=7", "HEAD")}
	if err := os.MkdirAll(k.bin, 0o755); err != nil {
		t.Fatal(err)
	}
	// The API is at the host's loopback address.
	script := fmt.Sprintf("#!/bin/sh\nexec nsenter --net=/proc/%d/fd/%d %s \"$@\"\n", os.Getpid(), int(s.host.ns), built.kubectl)
	if err := os.WriteFile(filepath.Join(k.bin, "kubectl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return k
}

// shopManifests is what git declares.
const shopManifests = `apiVersion: v1
kind: Namespace
metadata:
  name: shop
---
apiVersion: v1
kind: ReplicationController
metadata:
  name: web
  namespace: shop
spec:
  replicas: 1
  selector: {app: web}
  template:
    metadata:
      labels: {app: web}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: web
          image: evenkeel.io/echo:1
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: settings
  namespace: shop
data:
  colour: blue
`

// scripts runs a directory of scripts. Besides what testscript has, they know
// the commands of this file and of terminal_test.go.
func (k *kubectl) scripts(t *testing.T, dir string) {
	testscript.Run(t, testscript.Params{
		Dir: dir, RequireExplicitExec: true, RequireUniqueNames: true, Setup: k.setUp,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"like": like, "soon": soon, "fetch": k.fetch, "terminal": atTerminal,
		},
	})
}

// setUp gives a script its namespace, and a kubeconfig that is about it.
func (k *kubectl) setUp(env *testscript.Env) error {
	name := strings.TrimPrefix(filepath.Base(env.WorkDir), "script-")
	namespace := "k-" + name
	made := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: map[string]string{corev1.LabelMetadataName: namespace}}}
	if _, err := k.cluster.regs.Create(context.Background(), made); err != nil {
		return err
	}
	config, err := os.ReadFile(filepath.Join(k.host.data(), "kubeconfig"))
	if err != nil {
		return err
	}
	file := filepath.Join(env.WorkDir, ".kubeconfig")
	text := strings.Replace(string(config), "- context:\n", "- context:\n    namespace: "+namespace+"\n", 1)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	for name, value := range map[string]string{
		"KUBECONFIG": file, "HOME": env.WorkDir, "NS": namespace, "NODE": k.host.name, "IP": k.host.ip, "COMMIT": k.commit,
		"PATH": k.bin + ":" + os.Getenv("PATH"), "TZ": "UTC",
	} {
		env.Setenv(name, value)
	}
	return nil
}

// fetch gets a URL from the host, as soon as it answers, and prints it.
func (k *kubectl) fetch(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: fetch url")
	}
	ts.Check(within(patience, func() error {
		text, err := get(k.host.ns, args[0])
		if err == nil {
			fmt.Fprint(ts.Stdout(), text)
		}
		return err
	}))
}
