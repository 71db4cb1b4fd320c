package agents_test

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/apiserver/agents"
	"github.com/evenkeel/evenkeel/schema/apiserver/pki"
	"github.com/evenkeel/evenkeel/schema/registry/memory"
)

// serve is an agent's server; it answers with the caller's name and groups.
func serve(t *testing.T) (node *corev1.Node) {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		subject := req.TLS.PeerCertificates[0].Subject
		fmt.Fprint(w, subject.CommonName, " ", strings.Join(subject.Organization, ","))
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	host, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.ParseInt(port, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(server.Certificate().Raw)
	node = &corev1.Node{}
	node.Annotations = map[string]string{schema.ServingAnnotation: "sha256:" + hex.EncodeToString(sum[:])}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "n1"}, {Type: corev1.NodeInternalIP, Address: host}}
	node.Status.DaemonEndpoints.KubeletEndpoint.Port = int32(number)
	return node
}

func TestReach(t *testing.T) {
	authority, err := pki.Open(t.Context(), memory.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	nodes := map[string]*corev1.Node{"n1": serve(t)}
	a := agents.New(authority, func(node string) *corev1.Node { return nodes[node] })
	t.Cleanup(a.Close)
	ask := func() (string, error) {
		base, transport, err := a.Reach(t.Context(), "n1")
		if err != nil {
			return "", err
		}
		response, err := (&http.Client{Transport: transport}).Get(base.String() + "/healthz")
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		return string(text), err
	}
	if got, err := ask(); err != nil || got != schema.APIServerUser+" "+schema.APIServerGroup {
		t.Errorf("%q, %v", got, err)
	}
	nodes["n1"] = serve(t) // the agent was started anew
	if got, err := ask(); err != nil || got == "" {
		t.Errorf("after a restart: %q, %v", got, err)
	}
	stranger := nodes["n1"].DeepCopy()
	stranger.Annotations[schema.ServingAnnotation] = "sha256:" + strings.Repeat("0", 64)
	nodes["n1"] = stranger
	if _, err := ask(); err == nil || !strings.Contains(err.Error(), "another certificate") {
		t.Errorf("another certificate: %v", err)
	}
	silent := nodes["n1"].DeepCopy()
	silent.Status.DaemonEndpoints.KubeletEndpoint.Port = 0
	nodes["n1"] = silent
	if _, err := ask(); !apierrors.IsServiceUnavailable(err) {
		t.Errorf("without a port: %v", err)
	}
	delete(nodes, "n1")
	if _, err := ask(); !apierrors.IsServiceUnavailable(err) {
		t.Errorf("without a node: %v", err)
	}
}
