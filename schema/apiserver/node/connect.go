package node

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/proxy"
)

// connectTime is how long it may take to reach a node's agent, and the agent to
// reach a pod.
const connectTime = 40 * time.Second

// connectProtocol is what the agent upgrades a request for a connection to: the
// bytes of the connection as they are.
const connectProtocol = "tcp"

// connect connects to a port at a pod's address by way of its node's agent. The
// connection is closed when ctx ends, if not before.
func (c *Config) connect(ctx context.Context, pod *corev1.Pod, port string) (net.Conn, error) {
	base, transport, err := c.reach(ctx, pod.Spec.NodeName)
	if err != nil {
		return nil, err
	}
	dialing, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	location := at(base, "/connect/"+pod.Namespace+"/"+pod.Name+"/"+port, nil)
	conn, err := proxy.DialURL(dialing, location, transport)
	if err != nil {
		return nil, fmt.Errorf("reach node %s: %w", pod.Spec.NodeName, err)
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	joined, err := ask(conn, location)
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("pod %s on node %s: %w", pod.Name, pod.Spec.NodeName, err)
	}
	return joined, nil
}

// ask has the agent join a connection with the pod that a path says.
func ask(conn net.Conn, location *url.URL) (net.Conn, error) {
	req := &http.Request{
		Method: http.MethodPost, URL: location, Host: location.Host, ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {connectProtocol}},
	}
	if err := conn.SetDeadline(time.Now().Add(connectTime)); err != nil {
		return nil, err
	}
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	reader := bufio.NewReader(conn)
	resp, err := http.ReadResponse(reader, req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		said, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return nil, errors.New(cmp.Or(strings.TrimSpace(string(said)), resp.Status))
	}
	return early{conn, reader}, conn.SetDeadline(time.Time{})
}

// early is a connection of which something may have been read already.
type early struct {
	net.Conn
	reader *bufio.Reader
}

func (e early) Read(p []byte) (int, error) { return e.reader.Read(p) }
