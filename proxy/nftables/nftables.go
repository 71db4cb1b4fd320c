// Package nftables programs services into the kernel through netlink.
//
// One table per node holds two maps: (address, protocol, port) to a chain that
// knows the number of endpoints, and (address, protocol, port, index) to the
// endpoint. A change of one endpoint is a change of a few elements. The table
// says all there is to know, so a new process reads it and applies the
// difference; nothing is flushed, and no packet is lost.
//
// It never starts a process and never touches a table that is not its own.
package nftables

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	nft "github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netns"

	"github.com/evenkeel/evenkeel/proxy"
)

// sendBuffer is room for one batch; the kernel takes a batch in one piece.
const sendBuffer = 256 << 20

// Config says whose table it is.
type Config struct {
	// Node names the table, so that several nodes can share a machine.
	Node string
	// Logger default: none.
	Logger *slog.Logger
}

// Backend is a proxy.Backend over nftables. It acts on the network namespace
// New was called in. It is safe for concurrent use.
type Backend struct {
	log   *slog.Logger
	ns    netns.NsHandle
	table schema

	mu    sync.Mutex
	conn  *nft.Conn
	state *state // nil: what the kernel holds must be read first
}

var _ proxy.Backend = (*Backend)(nil)

// New opens nftables and changes nothing. It returns an error where the kernel
// has no nftables; the userspace proxy may serve there. Close the Backend when
// done.
func New(cfg Config) (*Backend, error) {
	if cfg.Node == "" {
		return nil, errors.New("nftables config: Node is empty")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	ns, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("open the node's network namespace: %w", err)
	}
	b := &Backend{log: cfg.Logger.With("node", cfg.Node), ns: ns, table: newSchema(tableName(cfg.Node))}
	if err := b.dialLocked(); err != nil {
		_ = ns.Close()
		return nil, err
	}
	if _, err := b.conn.ListTablesOfFamily(family); err != nil {
		b.Close()
		return nil, fmt.Errorf("nftables is not available: %w", err)
	}
	return b, nil
}

// Close releases the Backend's sockets. The rules stay in force.
func (b *Backend) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = b.conn.CloseLasting()
	_ = b.ns.Close()
}

func (b *Backend) dialLocked() error {
	room := nft.WithSockOptions(func(c *netlink.Conn) error { return c.SetWriteBuffer(sendBuffer) })
	conn, err := nft.New(nft.AsLasting(), nft.WithNetNSFd(int(b.ns)), room)
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	b.conn = conn
	return nil
}

// Sync implements proxy.Backend.
func (b *Backend) Sync(ctx context.Context, rules proxy.Ruleset) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	want := newState(rules)
	d, err := b.planLocked(want)
	if err != nil {
		return b.lostLocked(err)
	}
	if err := b.applyLocked(d); err != nil {
		return b.lostLocked(fmt.Errorf("change table %s: %w", b.table.t.Name, err))
	}
	b.state = want
	if err := b.forgetFlows(d, want); err != nil {
		b.log.Warn("stale UDP flows stay until they time out", "err", err)
	}
	return nil
}

// planLocked is the difference to what is in force: to the last state if it
// differs from want, and otherwise, or when none is known, to the kernel's own.
func (b *Backend) planLocked(want *state) (delta, error) {
	if b.state != nil {
		if d := b.state.to(want); !d.empty() {
			return d, nil
		}
	}
	have, err := b.readLocked()
	if err != nil {
		return delta{}, err
	}
	return have.to(want), nil
}

// lostLocked forgets what the kernel may hold, and the socket on which answers
// to a batch that went wrong may still arrive.
func (b *Backend) lostLocked(err error) error {
	b.state = nil
	_ = b.conn.CloseLasting()
	if dialErr := b.dialLocked(); dialErr != nil {
		return errors.Join(err, dialErr)
	}
	return err
}

// Cleanup implements proxy.Backend.
func (b *Backend) Cleanup(context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state = nil
	if err := b.restoreLoopbackLocked(); err != nil {
		return err
	}
	b.conn.AddTable(b.table.t)
	b.conn.DelTable(b.table.t)
	if err := b.conn.Flush(); err != nil {
		return b.lostLocked(fmt.Errorf("remove table %s: %w", b.table.t.Name, err))
	}
	return nil
}

func tableName(node string) string {
	sum := sha256.Sum256([]byte(node))
	enc := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:])
	return "evenkeel-proxy-" + strings.ToLower(enc[:5])
}
