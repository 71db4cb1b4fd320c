package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// TestUserspaceProxy serves services without nftables.
func TestUserspaceProxy(t *testing.T) {
	require(t)
	t.Parallel()
	s := startSite(t, false, webService(3), "--proxy-mode=userspace")
	s.t.Logf("all ready after %v", s.cluster.ready())
	clusterIP := s.cluster.service(shop, "web").Spec.ClusterIP
	pod := s.cluster.pods(shop, "web")[0].Status.PodIP
	for _, way := range []struct {
		name string
		once func() (string, error)
	}{
		{"cluster IP", func() (string, error) { return get(s.host.ns, "http://"+clusterIP) }},
		{"cluster IP by UDP", func() (string, error) { return ask(s.host.ns, "udp", clusterIP+":9000") }},
		{"node port", func() (string, error) { return get(s.host.ns, "http://"+s.host.ip+":30080") }},
		{"node port from outside", func() (string, error) { return get(s.hub, "http://"+s.host.ip+":30080") }},
		{"node port from outside by UDP", func() (string, error) { return ask(s.hub, "udp", s.host.ip+":30900") }},
		{"name in a pod", func() (string, error) { return from(s.host.ns, pod, "dial", "url", "http://web/") }},
		{"name in a pod by UDP", func() (string, error) { return from(s.host.ns, pod, "dial", "url", "udp://web:9000") }},
	} {
		s.step(way.name)
		s.allAnswer(way.name, 3, way.once)
	}
	if text, err := s.run(s.host.ns, "nft", "list", "tables"); err != nil || strings.Contains(text, "proxy") {
		t.Errorf("tables in userspace mode: %s, %v", text, err)
	}
}

// allAnswer asks until n pods have answered, in one round without an error.
func (w *world) allAnswer(what string, n int, once func() (string, error)) {
	w.t.Helper()
	eventually(w.t, patience, what, func() error {
		seen := map[string]int{}
		for range 8 * n {
			who, err := once()
			if err != nil {
				return err
			}
			seen[who]++
		}
		if len(seen) != n {
			return fmt.Errorf("%d pods answered: %v", len(seen), seen)
		}
		return nil
	})
}
