package nodeagent

import (
	"context"
	"fmt"
	"net/netip"
	"time"
)

// routesRetry is how soon the network is tried again after an error.
const routesRetry = 2 * time.Second

// keepRoutes gives the network the node's range and its peers: as soon as they
// are known or change, and every now and then, because somebody else on the
// machine may have changed the routes.
func (a *agent) keepRoutes(ctx context.Context) error {
	ticker := time.NewTicker(resync)
	defer ticker.Stop()
	var retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.routesChanged:
		case <-ticker.C:
		case <-retry:
		}
		retry = nil
		if err := a.setRoutes(ctx); err != nil && ctx.Err() == nil {
			a.cfg.Logger.Error("routes to other nodes, will be tried again", "error", err)
			retry = time.After(routesRetry)
		}
	}
}

func (a *agent) setRoutes(ctx context.Context) error {
	if err := a.setPodCIDR(); err != nil {
		return err
	}
	peers, known := a.bindings.peers()
	if !known {
		return nil
	}
	return a.cfg.Network.SetPeers(ctx, peers)
}

// setPodCIDR tells the network its range. Pods that wait for one try again.
func (a *agent) setPodCIDR() error {
	cidr := a.cfg.PodCIDR
	if node := a.bindings.node(); node != nil && node.Spec.PodCIDR != "" {
		var err error
		if cidr, err = netip.ParsePrefix(node.Spec.PodCIDR); err != nil {
			return fmt.Errorf("pod CIDR of node %s: %w", node.Name, err)
		}
	}
	a.cidrMu.Lock()
	defer a.cidrMu.Unlock()
	if !cidr.IsValid() || a.cidr == cidr {
		return nil
	}
	if err := a.cfg.Network.SetPodCIDR(cidr); err != nil {
		return fmt.Errorf("set pod CIDR of node %s: %w", a.cfg.Node, err)
	}
	a.cidr = cidr
	a.tell(news{network: true})
	return nil
}
