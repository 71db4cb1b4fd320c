package nftables

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"

	nft "github.com/google/nftables"

	"github.com/evenkeel/evenkeel/proxy/thread"
)

const routeLocalnet = "/proc/sys/net/ipv4/conf/all/route_localnet"

// openLoopbackLocked lets node ports answer on 127.0.0.1: it allows traffic
// from there to leave for endpoints. The guard chain, already in force, keeps
// everyone else's packets to 127.0.0.0/8 out. The table remembers that routing
// was closed before.
func (b *Backend) openLoopbackLocked() error {
	return thread.In(b.ns, func() error {
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
	return thread.In(b.ns, func() error {
		if err := os.WriteFile(routeLocalnet, []byte("0"), 0o644); err != nil {
			return fmt.Errorf("restore route_localnet: %w", err)
		}
		return nil
	})
}
