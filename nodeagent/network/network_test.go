package network

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/evenkeel/evenkeel/testdata/requires"
)

var compareIPs = cmpopts.EquateComparable(netip.Addr{})

// world is one node at 192.0.2.10 with an outside machine at 192.0.2.1.
type world struct {
	node, outside netns.NsHandle
	cfg           Config
}

func newWorld(t *testing.T) world {
	t.Helper()
	requires.Root(t)
	w := world{node: newNetNS(t), outside: newNetNS(t)}
	wire(t, w.node, "up0", "192.0.2.10/24", w.outside, "up0", "192.0.2.1/24")
	addDefaultRoute(t, w.node, "192.0.2.1")
	w.cfg = Config{
		Node: "node-" + t.Name(), RunDir: filepath.Join(t.TempDir(), "run"),
		PodCIDR: netip.MustParsePrefix("10.77.3.0/24"), NodeIP: netip.MustParseAddr("192.0.2.10"), Masquerade: true,
	}
	return w
}

func setup(t *testing.T, n *Network, pod Pod) Sandbox {
	t.Helper()
	box, err := n.Setup(t.Context(), pod)
	if err != nil {
		t.Fatalf("Setup: %v", err)
	}
	return box
}

func TestPodsReachEachOtherAndTheWorld(t *testing.T) {
	w := newWorld(t)
	n := newNode(t, w.node, w.cfg)
	a := setup(t, n, Pod{UID: "a", Name: "a"})
	b := setup(t, n, Pod{UID: "b", Name: "b"})
	aNS, bNS := openNS(t, a.NetNS), openNS(t, b.NetNS)
	serveTCP(t, bNS, ":80")
	serveUDP(t, bNS, ":53")
	serveTCP(t, w.outside, ":80")
	serveTCP(t, w.node, ":81")

	wantAnswer(t, aNS, "tcp4", b.IP.String()+":80", a.IP.String())
	wantAnswer(t, aNS, "udp4", b.IP.String()+":53", a.IP.String())
	wantAnswer(t, bNS, "tcp4", b.IP.String()+":80", b.IP.String())
	wantAnswer(t, w.node, "tcp4", b.IP.String()+":80", "192.0.2.10")
	wantAnswer(t, aNS, "tcp4", "192.0.2.10:81", a.IP.String())
	wantAnswer(t, aNS, "tcp4", "192.0.2.1:80", "192.0.2.10")
}

func TestHostPorts(t *testing.T) {
	w := newWorld(t)
	n := newNode(t, w.node, w.cfg)
	a := setup(t, n, Pod{UID: "a", Name: "a", HostPorts: []PortMapping{
		{HostPort: 8080, ContainerPort: 80},
		{HostPort: 5353, ContainerPort: 53, Protocol: "UDP"},
		{HostPort: 9090, ContainerPort: 80, HostIP: netip.MustParseAddr("127.0.0.1")},
	}})
	b := setup(t, n, Pod{UID: "b", Name: "b"})
	aNS, bNS := openNS(t, a.NetNS), openNS(t, b.NetNS)
	serveTCP(t, aNS, ":80")
	serveUDP(t, aNS, ":53")

	wantAnswer(t, w.outside, "tcp4", "192.0.2.10:8080", "192.0.2.1")
	wantAnswer(t, w.outside, "udp4", "192.0.2.10:5353", "192.0.2.1")
	wantAnswer(t, w.node, "tcp4", "192.0.2.10:8080", "192.0.2.10")
	wantAnswer(t, w.node, "tcp4", "127.0.0.1:8080", "192.0.2.10")
	wantAnswer(t, w.node, "tcp4", "127.0.0.1:9090", "192.0.2.10")
	wantAnswer(t, bNS, "tcp4", "192.0.2.10:8080", b.IP.String())
	wantAnswer(t, aNS, "tcp4", "192.0.2.10:8080", "192.0.2.10") // hairpin
	if got, err := ask(t, w.outside, "tcp4", "192.0.2.10:9090"); err == nil {
		t.Errorf("port bound to 127.0.0.1 answers outside: %s", got)
	}

	must(t, n.Teardown(t.Context(), "a"))
	if _, err := ask(t, w.outside, "tcp4", "192.0.2.10:8080"); err == nil {
		t.Error("host port answers after teardown")
	}
}

// TestHostPortMovesOn keeps one UDP flow while its pod is replaced.
func TestHostPortMovesOn(t *testing.T) {
	w := newWorld(t)
	n := newNode(t, w.node, w.cfg)
	var c net.Conn
	inNS(t, w.outside, func() {
		var err error
		c, err = net.Dial("udp4", "192.0.2.10:5353")
		must(t, err)
	})
	defer func() { _ = c.Close() }()
	for _, uid := range []string{"first", "second"} {
		box := setup(t, n, Pod{UID: uid, Name: uid, HostPorts: []PortMapping{{HostPort: 5353, ContainerPort: 53, Protocol: "UDP"}}})
		serveUDP(t, openNS(t, box.NetNS), ":53")
		_, err := c.Write([]byte("x"))
		must(t, err)
		must(t, c.SetReadDeadline(time.Now().Add(patience)))
		if _, err := c.Read(make([]byte, 100)); err != nil {
			t.Fatalf("%s pod: %v", uid, err)
		}
		must(t, n.Teardown(t.Context(), uid))
	}
}

func TestSandboxSurvivesAgent(t *testing.T) {
	w := newWorld(t)
	first := newNode(t, w.node, w.cfg)
	want := []Sandbox{
		setup(t, first, Pod{UID: "a", Name: "a"}),
		setup(t, first, Pod{UID: "b", Name: "b"}),
		setup(t, first, Pod{UID: "h", Name: "h", HostNetwork: true}),
	}
	second := newNode(t, w.node, w.cfg)
	got, err := second.List()
	must(t, err)
	if d := cmp.Diff(want, got, compareIPs); d != "" {
		t.Errorf("List after restart (-want +got):\n%s", d)
	}
	if d := cmp.Diff(want[1], setup(t, second, Pod{UID: "b", Name: "b"}), compareIPs); d != "" {
		t.Errorf("Setup after restart (-want +got):\n%s", d)
	}
	must(t, second.Teardown(t.Context(), "a"))
	if c := setup(t, second, Pod{UID: "c", Name: "c"}); c.IP == want[0].IP || c.IP == want[1].IP {
		t.Errorf("new pod got %s: in use or just freed", c.IP)
	}
}

func TestHostname(t *testing.T) {
	w := newWorld(t)
	n := newNode(t, w.node, w.cfg)
	box := setup(t, n, Pod{UID: "a", Name: "a", Hostname: "web-0"})
	uts, err := os.Open(box.UTSNS)
	must(t, err)
	defer func() { _ = uts.Close() }()
	inNS(t, w.node, func() {
		must(t, unix.Setns(int(uts.Fd()), unix.CLONE_NEWUTS))
		var u unix.Utsname
		must(t, unix.Uname(&u))
		if got := unix.ByteSliceToString(u.Nodename[:]); got != "web-0" {
			t.Errorf("hostname %q, want web-0", got)
		}
	})
}

// TestHealsAfterCrash leaves a sandbox as a kill at each step would, and wants
// Setup, Teardown and Cleanup of a fresh agent each to cope.
func TestHealsAfterCrash(t *testing.T) {
	crashes := []struct {
		name string
		at   func(t *testing.T, n *Network)
	}{
		{"empty directory", func(t *testing.T, n *Network) { must(t, os.MkdirAll(n.podDir("a"), 0o755)) }},
		{"file without mount", func(t *testing.T, n *Network) {
			must(t, os.MkdirAll(n.podDir("a"), 0o755))
			must(t, os.WriteFile(filepath.Join(n.podDir("a"), "net"), nil, 0o444))
		}},
		{"namespaces half pinned", func(t *testing.T, n *Network) {
			must(t, pinOnly(n, Pod{UID: "a", Name: "a"}))
			must(t, unmountAll(filepath.Join(n.podDir("a"), "ipc")))
		}},
		{"namespaces without link", func(t *testing.T, n *Network) { must(t, pinOnly(n, Pod{UID: "a", Name: "a"})) }},
		{"link without alias", func(t *testing.T, n *Network) {
			setup(t, n, Pod{UID: "a", Name: "a"})
			link, err := n.nl.LinkByName(n.vethName("a"))
			must(t, err)
			must(t, n.nl.LinkSetDown(link))
			must(t, n.nl.LinkSetAlias(link, ""))
		}},
		{"link not up", func(t *testing.T, n *Network) {
			setup(t, n, Pod{UID: "a", Name: "a"})
			link, err := n.nl.LinkByName(n.vethName("a"))
			must(t, err)
			must(t, n.nl.LinkSetDown(link))
		}},
		{"pins gone, link there", func(t *testing.T, n *Network) {
			setup(t, n, Pod{UID: "a", Name: "a"})
			must(t, n.unpin("a"))
		}},
		{"table gone", func(t *testing.T, n *Network) {
			setup(t, n, Pod{UID: "a", Name: "a"})
			must(t, n.deleteRules())
		}},
	}
	for _, c := range crashes {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.cfg.Node = "crash"
			c.at(t, newNode(t, w.node, w.cfg))
			n := newNode(t, w.node, w.cfg)
			box := setup(t, n, Pod{UID: "a", Name: "a"})
			serveTCP(t, openNS(t, box.NetNS), ":80")
			wantAnswer(t, w.node, "tcp4", box.IP.String()+":80", "192.0.2.10")
			must(t, n.Teardown(t.Context(), "a"))
			must(t, n.Teardown(t.Context(), "a"))

			c.at(t, n)
			n = newNode(t, w.node, w.cfg)
			must(t, n.Teardown(t.Context(), "a"))
			if boxes, err := n.List(); err != nil || len(boxes) != 0 {
				t.Errorf("after Teardown: %v, %v", boxes, err)
			}

			must(t, newNode(t, w.node, w.cfg).syncBaseRules())
			c.at(t, n)
			n = newNode(t, w.node, w.cfg)
			must(t, n.Cleanup(t.Context()))
			if left := traces(t, w.node, n); len(left) != 0 {
				t.Errorf("after Cleanup: %v", left)
			}
			inNS(t, w.node, func() {
				conn, err := nftables.New()
				must(t, err)
				if tables, err := conn.ListTables(); err != nil || len(tables) != 0 {
					t.Errorf("after Cleanup: %d tables, %v", len(tables), err)
				}
			})
		})
	}
}

func TestRouteComesBack(t *testing.T) {
	w := newWorld(t)
	n := newNode(t, w.node, w.cfg)
	box := setup(t, n, Pod{UID: "a", Name: "a"})
	must(t, n.nl.RouteDel(&netlink.Route{Dst: hostNet(box.IP), Scope: netlink.SCOPE_LINK}))
	setup(t, n, Pod{UID: "a", Name: "a"})
	serveTCP(t, openNS(t, box.NetNS), ":80")
	wantAnswer(t, w.node, "tcp4", box.IP.String()+":80", "192.0.2.10")
}

func TestSetupAtOnce(t *testing.T) {
	w := newWorld(t)
	n := newNode(t, w.node, w.cfg)
	const pods = 30
	start := time.Now()
	var wg sync.WaitGroup
	boxes := make([]Sandbox, pods)
	work := make(chan int)
	for range 4 {
		wg.Go(func() {
			for i := range work {
				var err error
				if boxes[i], err = n.Setup(t.Context(), Pod{UID: fmt.Sprint("uid-", i), Name: "p"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range pods {
		work <- i
	}
	close(work)
	wg.Wait()
	t.Logf("%d sandboxes in %v: %v each", pods, time.Since(start), time.Since(start)/pods)
	seen := map[netip.Addr]bool{}
	for _, b := range boxes {
		if seen[b.IP] {
			t.Errorf("address %s given twice", b.IP)
		}
		seen[b.IP] = true
	}
	start = time.Now()
	for i := range pods {
		must(t, n.Teardown(t.Context(), fmt.Sprint("uid-", i)))
	}
	t.Logf("torn down in %v each", time.Since(start)/pods)
}

// TestListable wants the nft program to understand our table.
func TestListable(t *testing.T) {
	requires.Programs(t, "nft")
	w := newWorld(t)
	n := newNode(t, w.node, w.cfg)
	setup(t, n, Pod{UID: "a", Name: "a", HostPorts: []PortMapping{{HostPort: 8080, ContainerPort: 80}}})
	setPeers(t, n, Peer{Node: "far", IP: netip.MustParseAddr("198.51.100.1"), PodCIDR: netip.MustParsePrefix("10.77.9.0/24")})
	inNS(t, w.node, func() {
		out, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
		t.Logf("%s", out)
		must(t, err)
	})
}
