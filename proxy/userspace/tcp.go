package userspace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"

	"github.com/evenkeel/evenkeel/proxy"
)

// tcpListener hands each connection to an endpoint. Connections outlive it.
type tcpListener struct {
	b        *Backend
	key      listenKey
	l        *net.TCPListener
	balancer *balancer
}

func (b *Backend) listenTCP(key listenKey, sp proxy.ServicePort) (listener, error) {
	t := &tcpListener{b: b, key: key, balancer: newBalancer(sp)}
	err := b.in(func() (err error) {
		t.l, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.AddrPortFrom(key.addr, key.port)))
		return err
	})
	if err != nil {
		return nil, err
	}
	b.wg.Go(t.serve)
	return t, nil
}

func (t *tcpListener) update(sp proxy.ServicePort) { t.balancer.set(sp) }
func (t *tcpListener) close()                      { _ = t.l.Close() }

func (t *tcpListener) serve() {
	for {
		c, err := t.l.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of file descriptors, or the client is gone again
			t.b.log.Warn("connection not accepted", "service", t.key.String(), "err", err)
			if !t.b.pause() {
				return
			}
			continue
		}
		t.b.wg.Go(func() { t.handle(c) })
	}
}

func (t *tcpListener) handle(client *net.TCPConn) {
	defer func() { _ = client.Close() }()
	server, err := t.dial(client.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap())
	if err != nil {
		t.b.log.Debug("no endpoint takes the connection", "service", t.key.String(), "err", err)
		_ = client.SetLinger(0) // a reset tells the client more than an end
		return
	}
	defer func() { _ = server.Close() }()
	stop := context.AfterFunc(t.b.ctx, func() { _ = client.Close(); _ = server.Close() })
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { copyHalf(server, client) })
	copyHalf(client, server)
	wg.Wait()
}

// copyHalf copies one direction and passes its end on.
func copyHalf(dst, src *net.TCPConn) {
	if _, err := io.Copy(dst, src); err != nil {
		_ = dst.SetLinger(0)
		_ = dst.Close()
		_ = src.Close()
		return
	}
	_ = dst.CloseWrite()
}

// dial connects to the first endpoint that accepts.
func (t *tcpListener) dial(client netip.Addr) (*net.TCPConn, error) {
	err := errors.New("no endpoints")
	for _, e := range t.balancer.candidates(client) {
		var c net.Conn
		c, err = t.b.dial("tcp4", e)
		if err == nil {
			t.balancer.chosen(client, e)
			return c.(*net.TCPConn), nil
		}
		if t.b.ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

func (b *Backend) dial(network string, to netip.AddrPort) (net.Conn, error) {
	var c net.Conn
	err := b.in(func() (err error) {
		d := net.Dialer{Timeout: b.cfg.DialTimeout}
		c, err = d.DialContext(b.ctx, network, to.String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("dial endpoint %s: %w", to, err)
	}
	return c, nil
}
