package nftables

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	nft "github.com/google/nftables"
	"github.com/vishvananda/netns"
)

const routeLocalnet = "/proc/sys/net/ipv4/conf/all/route_localnet"

// openLoopbackLocked lets node ports answer on 127.0.0.1: it allows traffic
// from there to leave for endpoints. The guard chain, already in force, keeps
// everyone else's packets to 127.0.0.0/8 out. The table remembers that routing
// was closed before.
func (b *Backend) openLoopbackLocked() error {
	return b.inNamespace(func() error {
		value, err := os.ReadFile(routeLocalnet)
		if errors.Is(err, fs.ErrNotExist) || string(bytes.TrimSpace(value)) == "1" {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read route_localnet: %w", err)
		}
		b.conn.AddChain(&nft.Chain{Table: b.table.t, Name: loopbackMark})
		if err := b.conn.Flush(); err != nil {
			return fmt.Errorf("add chain %s: %w", loopbackMark, err)
		}
		if err := os.WriteFile(routeLocalnet, []byte("1"), 0o644); err != nil {
			b.log.Warn("node ports do not answer on 127.0.0.1", "err", err)
		}
		return nil
	})
}

// restoreLoopbackLocked closes routing to 127.0.0.0/8 if this proxy opened it.
func (b *Backend) restoreLoopbackLocked() error {
	have, err := b.readLocked()
	if err != nil {
		return err
	}
	if !have.read.chains[loopbackMark] {
		return nil
	}
	return b.inNamespace(func() error {
		if err := os.WriteFile(routeLocalnet, []byte("0"), 0o644); err != nil {
			return fmt.Errorf("restore route_localnet: %w", err)
		}
		return nil
	})
}

// inNamespace runs f on a thread in the Backend's network namespace.
func (b *Backend) inNamespace(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends here
		if err := netns.Set(b.ns); err != nil {
			done <- fmt.Errorf("enter the node's network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}
