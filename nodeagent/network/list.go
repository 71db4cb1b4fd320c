package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

// List returns every sandbox of this node, sorted by UID, from pinned
// namespaces and the kernel's interfaces. One that was left half made is listed
// too, without address: Setup completes it, Teardown removes it. So is one that
// another goroutine is just making.
func (n *Network) List() ([]Sandbox, error) {
	uids, err := n.pinned()
	if err != nil {
		return nil, err
	}
	veths, err := n.veths()
	if err != nil {
		return nil, err
	}
	boxes := map[string]Sandbox{}
	for _, uid := range uids {
		box := n.sandbox(uid)
		if box.NetNS == "" && box.UTSNS == "" && box.IPCNS != "" {
			box.IP = n.cfg.NodeIP
		}
		boxes[uid] = box
	}
	for _, v := range veths {
		if v.uid == "" {
			continue
		}
		box := n.sandbox(v.uid)
		if box.whole(false) {
			box.IP = v.ip
		}
		boxes[v.uid] = box
	}
	out := make([]Sandbox, 0, len(boxes))
	for _, box := range boxes {
		out = append(out, box)
	}
	slices.SortFunc(out, func(a, b Sandbox) int { return strings.Compare(a.UID, b.UID) })
	return out, nil
}

// Cleanup removes all that any Network of this node ever made: sandboxes,
// interfaces, routes, the overlay device, the nftables table and the directory
// of pins. It does what it can and returns what it could not. Forwarding stays
// enabled. The Network must not be used afterwards.
func (n *Network) Cleanup(ctx context.Context) error {
	// The table may be what is missing; what follows counts on it.
	errs := []error{n.syncBaseRules()}
	boxes, err := n.List()
	errs = append(errs, err)
	errs = append(errs, n.teardownAll(ctx, boxes))
	veths, err := n.veths()
	errs = append(errs, err)
	for _, v := range veths {
		errs = append(errs, n.deleteLink(v.link.Attrs().Name))
	}
	errs = append(errs, n.SetPeers(ctx, nil), n.deleteRules(), n.removePinDir())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("clean up network of node %s: %w", n.cfg.Node, err)
	}
	return nil
}

// teardownAll works on several sandboxes at once: the kernel takes its time to
// let go of an interface, and lets go of many in the same time.
func (n *Network) teardownAll(ctx context.Context, boxes []Sandbox) error {
	var g errgroup.Group
	g.SetLimit(16)
	errs := make([]error, len(boxes))
	for i, box := range boxes {
		g.Go(func() error { errs[i] = n.Teardown(ctx, box.UID); return nil })
	}
	_ = g.Wait()
	return errors.Join(errs...)
}

func (n *Network) removePinDir() error {
	if err := unmountAll(n.pinDir()); err != nil {
		return err
	}
	if err := os.Remove(n.pinDir()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", n.pinDir(), err)
	}
	if err := os.Remove(n.cfg.RunDir); err != nil && !errors.Is(err, os.ErrNotExist) {
		n.log.Debug("run directory stays", "dir", n.cfg.RunDir, "err", err)
	}
	return nil
}
