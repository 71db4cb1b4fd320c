package node

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/evenkeel/evenkeel/nodeagent"
	"github.com/evenkeel/evenkeel/nodeagent/logs"
	"github.com/evenkeel/evenkeel/nodeagent/server"
	"github.com/evenkeel/evenkeel/nodeagent/stats"
)

// serving returns what makes the node's server. The agent's own metrics are
// those of the registerer, if it can gather them.
func (n *Node) serving(registerer prometheus.Registerer) func(nodeagent.View) (nodeagent.Server, error) {
	return func(view nodeagent.View) (nodeagent.Server, error) {
		collector, err := stats.New(stats.Config{
			Node: n.flags.Name, Dir: n.flags.DataDir, Cgroup: n.flags.cgroupRoot(), Pods: view.Measured, Disk: n.runtime, Logs: n.logSize,
		})
		if err != nil {
			return nil, err
		}
		claims := prometheus.NewRegistry()
		if err := claims.Register(collector.ClaimMetrics()); err != nil {
			return nil, err
		}
		gatherer := prometheus.Gatherers{claims}
		if own, ok := registerer.(prometheus.Gatherer); ok {
			gatherer = append(gatherer, own)
		}
		return server.New(server.Config{
			Node: n.flags.Name, NodeIP: n.flags.Addr(), Address: n.flags.Server, Trust: view.Trust,
			Pods: view, Containers: n.runtime, Logs: n.logs, Stats: collector, Gatherer: gatherer, Logger: n.logger,
		})
	}
}

func (n *Node) logSize(p stats.Pod, c stats.Container) (bytes, inodes int64) {
	return n.logs.ContainerUsage(logs.Container{ID: c.ID, UID: p.UID, Namespace: p.Namespace, Pod: p.Name, Name: c.Name, Attempt: c.Attempt})
}
