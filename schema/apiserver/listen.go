package apiserver

import (
	"net"
	"sync"
)

// listeners are several listeners as one.
type listeners struct {
	net.Listener // the first, for its address
	all          []net.Listener
	accepted     chan accepted
	closed       chan struct{}
	close        func() error
	wg           *sync.WaitGroup
}

type accepted struct {
	conn net.Conn
	err  error
}

// merge returns one listener that takes the connections of all.
func merge(all []net.Listener) net.Listener {
	if len(all) == 1 {
		return all[0]
	}
	l := listeners{Listener: all[0], all: all, accepted: make(chan accepted), closed: make(chan struct{}), wg: &sync.WaitGroup{}}
	l.close = sync.OnceValue(func() error {
		close(l.closed)
		var first error
		for _, one := range all {
			if err := one.Close(); err != nil && first == nil {
				first = err
			}
		}
		l.wg.Wait()
		return first
	})
	for _, one := range all {
		l.wg.Go(func() { l.accept(one) })
	}
	return l
}

func (l listeners) accept(from net.Listener) {
	for {
		conn, err := from.Accept()
		select {
		case l.accepted <- accepted{conn, err}:
		case <-l.closed:
			if conn != nil {
				conn.Close()
			}
			return
		}
	}
}

// Accept implements net.Listener.
func (l listeners) Accept() (net.Conn, error) {
	select {
	case a := <-l.accepted:
		return a.conn, a.err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l listeners) Close() error { return l.close() }
