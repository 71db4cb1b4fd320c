package dns

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	mdns "github.com/miekg/dns"
)

const (
	// perServer is how long one upstream server may take; the next is asked then.
	perServer = 2 * time.Second
	// underWay is how many forwarded questions may wait at once. It bounds what a
	// loop through somebody else's server can cost.
	underWay = 512
)

// forwarder asks the machine's own name servers.
type forwarder struct {
	log   *slog.Logger
	own   []netip.AddrPort
	slots chan struct{}
	file  string
	fixed []string

	mu      sync.Mutex
	read    time.Time // modification time of the file when it was read
	servers []string
}

func newForwarder(cfg Config, own []string) *forwarder {
	f := &forwarder{log: cfg.Logger, slots: make(chan struct{}, underWay), file: cfg.ResolvConf, fixed: cfg.Upstreams}
	for _, a := range own {
		if ap, err := netip.ParseAddrPort(a); err == nil {
			f.own = append(f.own, ap)
		}
	}
	return f
}

// ask forwards req and returns the first server's answer; SERVFAIL when none
// answers. A truncated answer is asked for again over TCP if the client uses
// that, and passed on otherwise.
func (f *forwarder) ask(ctx context.Context, req *mdns.Msg, network string) *mdns.Msg {
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	default:
		return new(mdns.Msg).SetRcode(req, mdns.RcodeServerFailure)
	}
	for _, server := range f.upstreams() {
		c := mdns.Client{Net: network, Timeout: perServer, UDPSize: mdns.DefaultMsgSize}
		resp, _, err := c.ExchangeContext(ctx, req, server)
		if err == nil {
			resp.Id = req.Id
			return resp
		}
		if ctx.Err() != nil {
			break
		}
		f.log.Debug("upstream name server does not answer", "server", server, "err", err)
	}
	resp := new(mdns.Msg).SetRcode(req, mdns.RcodeServerFailure)
	resp.RecursionAvailable = true
	return resp
}

// upstreams are the servers to ask, without ourselves.
func (f *forwarder) upstreams() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.fixed) > 0 {
		return f.withoutOwn(f.fixed)
	}
	st, err := os.Stat(f.file)
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			f.log.Warn("name servers cannot be read", "file", f.file, "err", err)
		}
		return f.servers
	}
	if st.ModTime().Equal(f.read) {
		return f.servers
	}
	conf, err := mdns.ClientConfigFromFile(f.file)
	if err != nil {
		f.log.Warn("name servers cannot be read", "file", f.file, "err", err)
		return f.servers
	}
	f.servers, f.read = nil, st.ModTime()
	for _, s := range conf.Servers {
		f.servers = append(f.servers, net.JoinHostPort(s, conf.Port))
	}
	f.servers = f.withoutOwn(f.servers)
	return f.servers
}

func (f *forwarder) withoutOwn(servers []string) []string {
	var out []string
	for _, s := range servers {
		if ap, err := netip.ParseAddrPort(s); err == nil && f.isOwn(ap) {
			f.log.Debug("name server is this one, not forwarding to it", "server", s)
			continue
		}
		out = append(out, s)
	}
	return out
}

func (f *forwarder) isOwn(server netip.AddrPort) bool {
	for _, own := range f.own {
		if server == own || own.Addr().IsUnspecified() && server.Port() == own.Port() && isLocal(server.Addr()) {
			return true
		}
	}
	return false
}

func isLocal(a netip.Addr) bool {
	if a.IsLoopback() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return true // rather no answer than a loop
	}
	for _, have := range addrs {
		if p, err := netip.ParsePrefix(have.String()); err == nil && p.Addr() == a {
			return true
		}
	}
	return false
}
