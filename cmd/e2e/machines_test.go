package e2e

import (
	"path/filepath"

	"github.com/vishvananda/netns"
)

// machines are hosts that run as a cluster: each with a node agent and a proxy,
// with the control plane and etcd somewhere beside them.
type machines struct {
	*world
	cluster *cluster
	repo    repo
	where   netns.NsHandle // of the control plane and etcd
	ip      string         // of etcd
	etcd    string         // its endpoint
	store   *process
	control *process
	agents  map[*host]*process
	proxies map[*host]*process
}

// startMachines runs etcd and the three programs as separate processes.
func startMachines(w *world, where netns.NsHandle, ip string, fill func(repo)) *machines {
	w.t.Helper()
	m := &machines{world: w, where: where, ip: ip, repo: w.newRepo("repo"), agents: map[*host]*process{}, proxies: map[*host]*process{}}
	fill(m.repo)
	first := m.repo.commit("first")
	m.startStore()
	m.startControl()
	for _, h := range w.hosts {
		m.startAgent(h)
		m.startProxy(h)
	}
	m.cluster = w.cluster(where, m.etcd)
	m.cluster.inForce(first)
	return m
}

func (m *machines) startStore() {
	m.t.Helper()
	m.store, m.etcd = m.startEtcd(m.where, m.ip)
}

func (m *machines) startControl() {
	m.t.Helper()
	m.control = m.start(m.where, "reconcile", "--etcd="+m.etcd, "--data-dir="+filepath.Join(m.dir, "control"), m.repo.dir)
}

func (m *machines) startAgent(h *host, flags ...string) {
	m.t.Helper()
	args := append([]string{"--etcd=" + m.etcd, "--eviction-hard=", "--image-gc-high-threshold=100", "--images=" + h.images()}, h.place()...)
	m.agents[h] = m.start(h.ns, "nodeagent", append(args, flags...)...)
}

func (m *machines) startProxy(h *host) {
	m.t.Helper()
	m.proxies[h] = m.start(h.ns, "proxy", "--etcd="+m.etcd, "--node-name="+h.name)
}
