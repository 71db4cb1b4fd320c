package userspace

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/evenkeel/evenkeel/proxy"
)

const largestPacket = 65535

// udpListener keeps a socket to an endpoint for each client, and answers from
// the address the client sent to.
type udpListener struct {
	b        *Backend
	key      listenKey
	c        *net.UDPConn
	balancer *balancer

	mu       sync.Mutex
	sessions map[sessionKey]*session
}

type sessionKey struct {
	client netip.AddrPort
	to     netip.Addr // our address, as the client wrote it
}

type session struct {
	key      sessionKey
	endpoint netip.AddrPort
	c        net.Conn
}

func (b *Backend) listenUDP(key listenKey, sp proxy.ServicePort) (listener, error) {
	u := &udpListener{b: b, key: key, balancer: newBalancer(sp), sessions: map[sessionKey]*session{}}
	err := b.in(func() (err error) {
		u.c, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(key.addr, key.port)))
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := tellDestination(u.c); err != nil {
		_ = u.c.Close()
		return nil, err
	}
	b.wg.Go(u.serve)
	return u, nil
}

// tellDestination makes the kernel say which address each packet was sent to.
func tellDestination(c *net.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var setErr error
	if err := raw.Control(func(fd uintptr) {
		setErr = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	}); err != nil {
		return err
	}
	return setErr
}

func (u *udpListener) update(sp proxy.ServicePort) {
	u.balancer.set(sp)
	u.mu.Lock()
	defer u.mu.Unlock()
	for key, s := range u.sessions {
		if !u.balancer.has(s.endpoint) {
			_ = s.c.Close()
			delete(u.sessions, key)
		}
	}
}

func (u *udpListener) close() {
	_ = u.c.Close()
	u.mu.Lock()
	defer u.mu.Unlock()
	for key, s := range u.sessions {
		_ = s.c.Close()
		delete(u.sessions, key)
	}
}

func (u *udpListener) serve() {
	buf, oob := make([]byte, largestPacket), make([]byte, 128)
	for {
		k, oobk, _, client, err := u.c.ReadMsgUDPAddrPort(buf, oob)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			u.b.log.Debug("packet not read", "service", u.key.String(), "err", err)
			if !u.b.pause() {
				return
			}
			continue
		}
		s, err := u.session(sessionKey{client, destination(oob[:oobk])})
		if err != nil {
			u.b.log.Debug("no endpoint for packet", "service", u.key.String(), "err", err)
			continue
		}
		_ = s.c.SetReadDeadline(time.Now().Add(u.b.cfg.UDPIdle))
		if _, err := s.c.Write(buf[:k]); err != nil {
			u.b.log.Debug("packet not sent", "service", u.key.String(), "err", err)
		}
	}
}

// session finds the client's endpoint or chooses one. Only serve calls it.
func (u *udpListener) session(key sessionKey) (*session, error) {
	u.mu.Lock()
	s := u.sessions[key]
	u.mu.Unlock()
	if s != nil {
		return s, nil
	}
	err := errors.New("no endpoints")
	for _, e := range u.balancer.candidates(key.client.Addr()) {
		var c net.Conn
		if c, err = u.b.dial("udp4", e); err != nil {
			continue
		}
		s = &session{key, e, c}
		if !u.add(s) {
			_ = c.Close()
			return nil, errors.New("endpoint went away")
		}
		u.balancer.chosen(key.client.Addr(), e)
		u.b.wg.Go(func() { u.answer(s) })
		return s, nil
	}
	return nil, err
}

// add notes a session unless its endpoint was taken away meanwhile.
func (u *udpListener) add(s *session) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.balancer.has(s.endpoint) || u.b.ctx.Err() != nil {
		return false
	}
	u.sessions[s.key] = s
	return true
}

// answer copies the endpoint's packets to the client until the flow is idle.
func (u *udpListener) answer(s *session) {
	defer u.remove(s)
	buf, oob := make([]byte, largestPacket), sourceMessage(s.key.to)
	for {
		k, err := s.c.Read(buf)
		if errors.Is(err, unix.ECONNREFUSED) { // an ICMP error for one packet
			continue
		}
		if err != nil {
			return
		}
		_ = s.c.SetReadDeadline(time.Now().Add(u.b.cfg.UDPIdle))
		if _, _, err := u.c.WriteMsgUDPAddrPort(buf[:k], oob, s.key.client); err != nil && errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

func (u *udpListener) remove(s *session) {
	_ = s.c.Close()
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.sessions[s.key] == s {
		delete(u.sessions, s.key)
	}
}

// destination is the address a packet was sent to.
func destination(oob []byte) netip.Addr {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return netip.Addr{}
	}
	for _, m := range messages {
		if m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo {
			return netip.AddrFrom4([4]byte(m.Data[8:12])) // struct in_pktinfo, ipi_addr
		}
	}
	return netip.Addr{}
}

// sourceMessage makes the kernel send a packet from this address.
func sourceMessage(from netip.Addr) []byte {
	if !from.Is4() {
		return nil
	}
	return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: from.As4()})
}

// pause waits a moment after an error that may pass, and reports whether to go
// on.
func (b *Backend) pause() bool {
	t := time.NewTimer(50 * time.Millisecond)
	defer t.Stop()
	select {
	case <-b.ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
