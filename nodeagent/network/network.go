// Package network gives a pod its namespaces, its address and its way out.
//
// The node agent calls it before a pod's first container starts and after its
// last one is gone. Everything it makes can be found again in the kernel
// (pinned namespaces, interface aliases, routes, one nftables table), so it
// keeps no file and a restarted agent has nothing to remember.
//
// It never runs a program (a user namespace takes a process to make, which is
// stopped before it runs anything), never touches another owner's nftables tables and
// never looks at services: those are the proxy's.
package network

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Config says for which node a Network works, and where.
type Config struct {
	// Node is the node's name. Interfaces, aliases and the nftables table are
	// derived from it, so that several nodes can share a machine.
	Node string
	// RunDir holds the pinned namespaces under ns/<uid>/. It should be on a file
	// system that a reboot empties, and belongs to this node alone.
	RunDir string
	// PodCIDR is the IPv4 range pod addresses come from. It may be left zero and
	// set later with SetPodCIDR.
	PodCIDR netip.Prefix
	// NodeIP is the address other nodes reach this one at. Traffic of the node
	// itself to its pods carries it as source.
	NodeIP netip.Addr
	// Masquerade hides pod addresses behind the node's when pods talk to
	// anything outside the known pod ranges and Unmasqueraded.
	Masquerade bool
	// Unmasqueraded lists further ranges, such as the service range, that pods
	// reach with their own address.
	Unmasqueraded []netip.Prefix
	// Users is where the IDs of pods with OwnUsers come from.
	Users UserRange
	// Logger receives what went wrong without stopping the work. Default: none.
	Logger *slog.Logger
}

func (c Config) validate() error {
	switch {
	case c.Node == "":
		return errors.New("network config: Node is empty")
	case strings.ContainsAny(c.Node, " \t\n"):
		return fmt.Errorf("network config: Node %q contains space", c.Node)
	case !filepath.IsAbs(c.RunDir):
		return fmt.Errorf("network config: RunDir %q is not absolute", c.RunDir)
	case !c.NodeIP.Is4():
		return fmt.Errorf("network config: NodeIP %q is not an IPv4 address", c.NodeIP)
	}
	if err := c.Users.validate(); err != nil {
		return err
	}
	if c.PodCIDR.IsValid() {
		return validateCIDR(c.PodCIDR)
	}
	return nil
}

func validateCIDR(p netip.Prefix) error {
	if !p.IsValid() || !p.Addr().Is4() || p.Bits() > 29 {
		return fmt.Errorf("pod CIDR %s: want an IPv4 range of /29 or larger", p)
	}
	return nil
}

// Pod is what Setup needs to know of a pod.
type Pod struct {
	UID       string
	Namespace string
	Name      string
	// Hostname is set in the pod's UTS namespace; Name is used when it is empty.
	Hostname string
	// HostNetwork leaves the pod in the node's network and UTS namespaces; it
	// still gets an IPC namespace of its own.
	HostNetwork bool
	// OwnUsers gives the pod a user namespace of its own, which owns its others.
	// It excludes HostNetwork.
	OwnUsers bool
	// HostPorts are ignored with HostNetwork.
	HostPorts []PortMapping
}

// PortMapping makes a container's port reachable on the node.
type PortMapping struct {
	HostPort      uint16
	ContainerPort uint16
	// Protocol is "TCP" or "UDP"; empty means TCP.
	Protocol string
	// HostIP limits the mapping to one of the node's addresses; the zero value
	// and 0.0.0.0 mean all of them.
	HostIP netip.Addr
}

// Sandbox is a pod's place on the node.
type Sandbox struct {
	UID string
	// NetNS, IPCNS and UTSNS are paths that can be opened for setns or given to
	// an OCI runtime. NetNS and UTSNS are empty for a pod in the host network.
	NetNS, IPCNS, UTSNS string
	// UserNS is the pod's own user namespace, in which the machine's user and
	// group IDs from FirstUser on are 0 to UsersPerPod-1; empty for a pod with
	// the machine's. Only Setup tells it.
	UserNS    string
	FirstUser uint32
	// IP is the pod's address, the node's for a pod in the host network, and the
	// zero Addr for a sandbox that was left half made.
	IP netip.Addr
}

// Network owns the pods' namespaces and addresses of one node. Its methods may
// be called at once from many goroutines; calls for one pod exclude each other.
// It acts on the network namespace New was called in, whichever thread calls.
type Network struct {
	cfg    Config
	log    *slog.Logger
	host   netns.NsHandle
	nl     *netlink.Handle
	prefix string
	pods   keyLocks

	rulesMu sync.Mutex

	peersMu sync.Mutex

	mu    sync.Mutex
	addrs *pool
	users *userPool
	peers []netip.Prefix
}

// New prepares the node: the directory of pinned namespaces, forwarding and the
// nftables table. It reads back the addresses in use and removes interfaces of
// this node that belong to no pod. New must be called in the network namespace
// of the node. Close releases what the Network holds of this process.
func New(cfg Config) (*Network, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	host, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("open the node's network namespace: %w", err)
	}
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		_ = host.Close()
		return nil, fmt.Errorf("open route netlink: %w", err)
	}
	n := &Network{
		cfg: cfg, log: cfg.Logger.With("node", cfg.Node), host: host, nl: nl,
		prefix: "ek" + hash32(cfg.Node, 5), addrs: newPool(cfg.PodCIDR), users: newUserPool(cfg.Users),
	}
	if err := n.prepare(); err != nil {
		n.Close()
		return nil, fmt.Errorf("prepare network of node %s: %w", cfg.Node, err)
	}
	return n, nil
}

func (n *Network) prepare() error {
	if err := n.preparePinDir(); err != nil {
		return err
	}
	if err := n.enableForwarding(); err != nil {
		return err
	}
	if err := n.adopt(); err != nil {
		return err
	}
	n.warnOfForwardPolicy()
	return n.syncBaseRules()
}

// adopt takes over the addresses and user IDs that pods of an earlier agent
// hold, and sweeps interfaces whose pod cannot be known.
func (n *Network) adopt() error {
	veths, err := n.veths()
	if err != nil {
		return err
	}
	pinned, err := n.pinned()
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, uid := range pinned {
		known[n.vethName(uid)] = true
		if path, first := usersOf(n.podDir(uid)); path != "" {
			n.users.reserve(uid, first)
		}
	}
	for _, v := range veths {
		switch {
		case v.ip.IsValid():
			n.addrs.reserve(v.ip, v.uid)
		case !known[v.link.Attrs().Name]:
			n.log.Info("removing interface of no pod", "link", v.link.Attrs().Name)
			if err := n.deleteLink(v.link.Attrs().Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// Close releases the sockets of this process and changes nothing on the node.
func (n *Network) Close() {
	n.nl.Close()
	_ = n.host.Close()
}

// SetPodCIDR tells the range new pods get their address from. Pods that have an
// address keep it.
func (n *Network) SetPodCIDR(p netip.Prefix) error {
	if err := validateCIDR(p); err != nil {
		return err
	}
	n.mu.Lock()
	changed := n.addrs.setRange(p)
	n.mu.Unlock()
	if !changed {
		return nil
	}
	return n.syncRanges()
}

// Setup makes a pod's namespaces and connects them, or completes and returns
// what is already there: the same pod always has the same sandbox and address.
// The caller owns the sandbox until Teardown.
func (n *Network) Setup(ctx context.Context, pod Pod) (Sandbox, error) {
	if err := validUID(pod.UID); err != nil {
		return Sandbox{}, err
	}
	unlock, err := n.pods.lock(ctx, pod.UID)
	if err != nil {
		return Sandbox{}, fmt.Errorf("set up network of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	defer unlock()
	box, err := n.setupLocked(pod)
	if err != nil {
		return Sandbox{}, fmt.Errorf("set up network of pod %s/%s (%s): %w", pod.Namespace, pod.Name, pod.UID, err)
	}
	return box, nil
}

func (n *Network) setupLocked(pod Pod) (Sandbox, error) {
	if pod.OwnUsers && pod.HostNetwork {
		return Sandbox{}, errors.New("a pod in the host network cannot have users of its own")
	}
	box, err := n.pin(pod)
	if err != nil {
		return Sandbox{}, err
	}
	if pod.HostNetwork {
		box.IP = n.cfg.NodeIP
		return box, nil
	}
	ip, err := n.connect(pod.UID, box.NetNS)
	if err != nil {
		return Sandbox{}, err
	}
	box.IP = ip
	return box, n.addPodRules(ip, pod.HostPorts)
}

// Teardown removes all of a pod's sandbox. It succeeds when there is nothing
// to remove; when it fails, calling it again continues. Processes must be out
// of the namespaces first, or those live on, unconnected, until they are.
func (n *Network) Teardown(ctx context.Context, uid string) error {
	if err := validUID(uid); err != nil {
		return err
	}
	unlock, err := n.pods.lock(ctx, uid)
	if err != nil {
		return fmt.Errorf("tear down network of pod %s: %w", uid, err)
	}
	defer unlock()
	if err := n.teardownLocked(uid); err != nil {
		return fmt.Errorf("tear down network of pod %s: %w", uid, err)
	}
	return nil
}

func (n *Network) teardownLocked(uid string) error {
	v, err := n.veth(uid)
	if err != nil {
		return err
	}
	ip := v.ip
	if !ip.IsValid() {
		ip = n.addressOf(uid)
	}
	if ip.IsValid() {
		if err := n.removePodRules(ip); err != nil {
			return err
		}
	}
	if err := n.deleteLink(n.vethName(uid)); err != nil {
		return err
	}
	if err := n.unpin(uid); err != nil {
		return err
	}
	n.mu.Lock()
	n.addrs.release(uid)
	n.users.release(uid)
	n.mu.Unlock()
	return nil
}

func (n *Network) addressOf(uid string) netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.addrs.of(uid)
}

// vethName is the name of the host side of a pod's interface pair.
func (n *Network) vethName(uid string) string { return n.prefix + hash32(uid, 8) }

// hash32 is a short name for s, of lower-case letters and digits.
func hash32(s string, length int) string {
	sum := sha256.Sum256([]byte(s))
	enc := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:])
	return strings.ToLower(enc[:length])
}

func validUID(uid string) error {
	if uid == "" || uid == "." || uid == ".." || strings.ContainsAny(uid, "/ \x00") {
		return fmt.Errorf("pod UID %q cannot name a directory", uid)
	}
	return nil
}
