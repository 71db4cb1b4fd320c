// Package dns answers for services by the Kubernetes DNS specification (1.1.0)
// and forwards every other question to the machine's own name servers.
//
// cmd/proxy runs one Server per node, over the same source the proxy reads.
// Pods ask it at a node-local address; it keeps no cache and asks no API.
package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	mdns "github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Source is where services and endpoint slices are read; see proxy.Source. It
// must not be shared with another consumer, for a change is delivered once.
type Source interface {
	Snapshot() (services []*corev1.Service, slices []*discoveryv1.EndpointSlice, ready bool)
	Changed() <-chan struct{}
}

// Config is what a Server needs.
type Config struct {
	// Listen are the "ip:port" addresses to serve on, each over UDP and TCP.
	Listen []string
	// ClusterDomain default: "cluster.local".
	ClusterDomain string
	// Source is required.
	Source Source
	// ResolvConf is the file that names the servers to forward to, read again
	// when it changes. Default: "/etc/resolv.conf".
	ResolvConf string
	// Upstreams, when not empty, are "ip:port" servers used instead of ResolvConf.
	Upstreams []string
	// Logger default: none.
	Logger *slog.Logger
}

func (c Config) validate() error {
	switch {
	case len(c.Listen) == 0:
		return errors.New("dns config: Listen is empty")
	case c.Source == nil:
		return errors.New("dns config: Source is nil")
	}
	if _, ok := mdns.IsDomainName(c.ClusterDomain); !ok {
		return fmt.Errorf("dns config: ClusterDomain %q is not a domain name", c.ClusterDomain)
	}
	return nil
}

// Server answers questions.
type Server struct {
	cfg     Config
	log     *slog.Logger
	zone    atomic.Pointer[zone]
	forward *forwarder
	packets []net.PacketConn
	streams []net.Listener
	ctx     atomic.Pointer[context.Context] // of Run; ends the questions under way
}

// New binds the addresses, in the network namespace of the calling thread, and
// serves nothing yet. Run or Close must follow.
func New(cfg Config) (*Server, error) {
	if cfg.ClusterDomain == "" {
		cfg.ClusterDomain = "cluster.local"
	}
	if cfg.ResolvConf == "" {
		cfg.ResolvConf = "/etc/resolv.conf"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, log: cfg.Logger}
	s.zone.Store(newZone(cfg.ClusterDomain, nil, nil, false))
	for _, addr := range cfg.Listen {
		if err := s.bind(addr); err != nil {
			s.Close()
			return nil, err
		}
	}
	s.forward = newForwarder(cfg, s.Addrs())
	return s, nil
}

func (s *Server) bind(addr string) error {
	p, err := net.ListenPacket("udp", addr)
	if err != nil {
		return fmt.Errorf("listen for DNS on %s: %w", addr, err)
	}
	s.packets = append(s.packets, p)
	// Port 0 means any, but the same for both.
	l, err := net.Listen("tcp", p.LocalAddr().String())
	if err != nil {
		return fmt.Errorf("listen for DNS on %s: %w", addr, err)
	}
	s.streams = append(s.streams, l)
	return nil
}

// Addrs are the "ip:port" addresses served.
func (s *Server) Addrs() []string {
	var out []string
	for _, p := range s.packets {
		out = append(out, p.LocalAddr().String())
	}
	return out
}

// Close releases the addresses of a Server that never ran.
func (s *Server) Close() {
	for _, p := range s.packets {
		_ = p.Close()
	}
	for _, l := range s.streams {
		_ = l.Close()
	}
}

// Run serves until ctx ends, releases the addresses and returns nil, or an
// error when a listener breaks. Until the source is ready, questions about the
// cluster are answered with SERVFAIL.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.ctx.Store(&ctx)
	s.read()
	servers := make([]*mdns.Server, 0, 2*len(s.packets))
	for i := range s.packets {
		servers = append(servers,
			&mdns.Server{PacketConn: s.packets[i], Handler: s, UDPSize: mdns.DefaultMsgSize},
			&mdns.Server{Listener: s.streams[i], Handler: s})
	}
	broken := make(chan error, len(servers))
	var wg sync.WaitGroup
	for _, srv := range servers {
		started := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		wg.Go(func() {
			if err := srv.ActivateAndServe(); err != nil {
				broken <- err
			}
		})
		select {
		case <-started:
		case err := <-broken:
			broken <- err
		}
	}
	err := s.follow(ctx, broken)
	cancel()
	for _, srv := range servers {
		_ = srv.Shutdown()
	}
	s.Close()
	wg.Wait()
	return err
}

// follow keeps the zone in step with the source.
func (s *Server) follow(ctx context.Context, broken <-chan error) error {
	const leastInterval = 10 * time.Millisecond
	for {
		s.read()
		select { // a burst of changes becomes one
		case <-ctx.Done():
			return nil
		case err := <-broken:
			return fmt.Errorf("serve DNS: %w", err)
		case <-time.After(leastInterval):
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-broken:
			return fmt.Errorf("serve DNS: %w", err)
		case <-s.cfg.Source.Changed():
		}
	}
}

// read makes the zone what the source says now.
func (s *Server) read() {
	services, slices, ready := s.cfg.Source.Snapshot()
	s.zone.Store(newZone(s.cfg.ClusterDomain, services, slices, ready))
}

// ServeDNS implements the DNS library's Handler.
func (s *Server) ServeDNS(w mdns.ResponseWriter, req *mdns.Msg) {
	ctx := *s.ctx.Load()
	resp := s.respond(ctx, req, w.RemoteAddr().Network())
	resp.Compress = true
	if w.RemoteAddr().Network() == "udp" {
		resp.Truncate(responseSize(req))
	}
	if err := w.WriteMsg(resp); err != nil && ctx.Err() == nil {
		s.log.Debug("DNS answer not sent", "client", w.RemoteAddr().String(), "err", err)
	}
}

func (s *Server) respond(ctx context.Context, req *mdns.Msg, network string) *mdns.Msg {
	if len(req.Question) != 1 || req.Opcode != mdns.OpcodeQuery {
		return new(mdns.Msg).SetRcode(req, mdns.RcodeNotImplemented)
	}
	q := req.Question[0]
	z := s.zone.Load()
	if !z.owns(q.Name) {
		return s.forward.ask(ctx, req, network)
	}
	resp := z.answer(q)
	resp.Authoritative, resp.RecursionAvailable = true, true
	s.chase(ctx, resp, q, network)
	full := new(mdns.Msg).SetRcode(req, resp.Rcode)
	full.Authoritative, full.RecursionAvailable = true, true
	full.Answer, full.Ns, full.Extra = resp.Answer, resp.Ns, resp.Extra
	if o := req.IsEdns0(); o != nil {
		full.SetEdns0(mdns.DefaultMsgSize, o.Do())
	}
	return full
}

// chase completes an alias that leads out of the service's name, for the
// resolvers in pods do not ask again.
func (s *Server) chase(ctx context.Context, resp *mdns.Msg, q mdns.Question, network string) {
	if len(resp.Answer) != 1 || q.Qtype == mdns.TypeCNAME {
		return
	}
	alias, ok := resp.Answer[0].(*mdns.CNAME)
	if !ok {
		return
	}
	z := s.zone.Load()
	next := mdns.Question{Name: alias.Target, Qtype: q.Qtype, Qclass: q.Qclass}
	if z.owns(alias.Target) {
		resp.Answer = append(resp.Answer, z.answer(next).Answer...)
		return
	}
	ask := new(mdns.Msg).SetQuestion(alias.Target, q.Qtype)
	resp.Answer = append(resp.Answer, s.forward.ask(ctx, ask, network).Answer...)
}

// responseSize is how much the client takes in one packet.
func responseSize(req *mdns.Msg) int {
	if o := req.IsEdns0(); o != nil {
		return max(int(o.UDPSize()), mdns.MinMsgSize)
	}
	return mdns.MinMsgSize
}
