package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/evenkeel/evenkeel/cmd/internal/machine"
	"github.com/evenkeel/evenkeel/reconciler/controller/apiservice"
)

// listening is where the API listens, and what it is called there.
type listening struct {
	listeners []net.Listener
	server    apiservice.Server
	names     []string
	addresses []netip.Addr
}

func (l listening) close() error {
	var errs []error
	for _, one := range l.listeners {
		errs = append(errs, one.Close())
	}
	return errors.Join(errs...)
}

// listen opens the API's address. On a node whose API is only for the machine
// itself it also listens on the node's address, for the node's own pods: these
// cannot reach a loopback address, and nobody else is let in there.
func listen(ctx context.Context, cfg Config) (listening, error) {
	host, _, err := net.SplitHostPort(cfg.API.Address)
	if err != nil {
		return listening{}, fmt.Errorf("--api-address %s: %w", cfg.API.Address, err)
	}
	var l listening
	first, err := open(ctx, cfg.API.Address)
	if err != nil {
		return listening{}, err
	}
	l.listeners = append(l.listeners, first)
	bound := first.Addr().(*net.TCPAddr)
	addr := bound.AddrPort().Addr().Unmap()
	l.server.Port = int32(bound.Port)
	l.addresses = append(l.addresses, addr)
	if err := l.forPods(ctx, cfg, addr); err != nil {
		return listening{}, errors.Join(err, l.close())
	}
	shown := shownHost(host, addr)
	if addr.IsUnspecified() && len(l.server.Addresses) > 0 {
		shown = l.server.Addresses[0].String()
	}
	l.server.URL = "https://" + net.JoinHostPort(shown, strconv.Itoa(bound.Port))
	l.addresses = append(l.addresses, l.server.Addresses...)
	l.called(host)
	for _, name := range cfg.API.Names {
		l.called(name)
	}
	l.addresses = slices.DeleteFunc(l.addresses, netip.Addr.IsUnspecified)
	return l, nil
}

// forPods finds the addresses at which pods reach what listens on addr, and
// opens one where there would be none.
func (l *listening) forPods(ctx context.Context, cfg Config, addr netip.Addr) error {
	switch {
	case addr.IsUnspecified():
		l.server.Addresses = ownAddress(cfg.NodeIP)
	case !addr.IsLoopback():
		l.server.Addresses = []netip.Addr{addr}
	case cfg.NodeIP.IsValid():
		pods, err := netip.ParsePrefix(cfg.PodCIDR)
		if err != nil {
			return fmt.Errorf("--pod-cidr: %w", err)
		}
		second, err := open(ctx, net.JoinHostPort(cfg.NodeIP.String(), strconv.Itoa(int(l.server.Port))))
		if err != nil {
			return err
		}
		l.listeners = append(l.listeners, &nearby{Listener: second, pods: pods})
		l.server.Addresses = []netip.Addr{cfg.NodeIP}
	}
	return nil
}

// called adds a name or an address to those that the certificate is good for.
func (l *listening) called(name string) {
	if addr, err := netip.ParseAddr(name); err == nil {
		l.addresses = append(l.addresses, addr)
	} else if name != "" {
		l.names = append(l.names, name)
	}
}

func open(ctx context.Context, address string) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--api-address: %w (another one is running? choose another address, or %q)", err, apiOff)
	}
	return listener, nil
}

// shownHost is how a person reaches a server by the address that it listens on.
func shownHost(asked string, bound netip.Addr) string {
	if bound.IsUnspecified() {
		return "127.0.0.1"
	}
	if _, err := netip.ParseAddr(asked); err != nil && asked != "" {
		return asked // by name
	}
	return bound.String()
}

// ownAddress is the address of this machine towards others, if it has one.
func ownAddress(node netip.Addr) []netip.Addr {
	if node.IsValid() {
		return []netip.Addr{node}
	}
	_, ip, err := machine.Identity("", "")
	if err != nil {
		return nil
	}
	return []netip.Addr{netip.MustParseAddr(ip)}
}

// nearby lets in only the pods of this cluster and this machine itself. What
// it lets in is still asked who it is.
type nearby struct {
	net.Listener
	pods netip.Prefix
}

// Accept waits for the next connection that may come in, and closes others.
func (n *nearby) Accept() (net.Conn, error) {
	for {
		conn, err := n.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if n.isNear(conn) {
			return conn, nil
		}
		conn.Close()
	}
}

func (n *nearby) isNear(conn interface {
	RemoteAddr() net.Addr
	LocalAddr() net.Addr
},
) bool {
	from, ok := conn.RemoteAddr().(*net.TCPAddr)
	here, isTCP := conn.LocalAddr().(*net.TCPAddr)
	if !ok || !isTCP {
		return false
	}
	addr := from.AddrPort().Addr().Unmap()
	return n.pods.Contains(addr) || addr == here.AddrPort().Addr().Unmap()
}
