package nodeagent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/network"
	"github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/nodeagent/volume"
)

// writeFiles makes the files that every container of a pod sees under /etc.
func (a *agent) writeFiles(pod *corev1.Pod, sandbox network.Sandbox) ([]runtime.Mount, error) {
	resolv, err := a.resolvFor(pod)
	if err != nil {
		return nil, err
	}
	resolvPath, err := a.cfg.Volumes.WriteResolvConf(string(pod.UID), resolv)
	if err != nil {
		return nil, fmt.Errorf("resolv.conf: %w", err)
	}
	mounts := []runtime.Mount{{Source: resolvPath, Destination: "/etc/resolv.conf"}}
	hostsPath, err := a.writeHosts(pod, sandbox)
	if err != nil {
		return nil, fmt.Errorf("hosts: %w", err)
	}
	name, err := systemName(pod, a.cfg.Node, a.cfg.Domain)
	if err != nil {
		return nil, err
	}
	namePath := filepath.Join(a.cfg.Volumes.Files(string(pod.UID)), "hostname")
	if err := os.WriteFile(namePath, []byte(name+"\n"), 0o644); err != nil {
		return nil, fmt.Errorf("hostname: %w", err)
	}
	mounts = append(mounts, runtime.Mount{Source: hostsPath, Destination: "/etc/hosts"},
		runtime.Mount{Source: namePath, Destination: "/etc/hostname"})
	return a.addSharedMemory(pod, mounts)
}

// addSharedMemory gives the containers of a pod one memory file system, as
// they have one IPC namespace. A single container has its own.
func (a *agent) addSharedMemory(pod *corev1.Pod, mounts []runtime.Mount) ([]runtime.Mount, error) {
	const destination = "/dev/shm"
	switch {
	case pod.Spec.HostIPC:
		return append(mounts, runtime.Mount{Source: destination, Destination: destination}), nil
	case len(pod.Spec.InitContainers)+len(pod.Spec.Containers) < 2:
		return mounts, nil
	}
	path, err := a.cfg.Volumes.SharedMemory(string(pod.UID))
	return append(mounts, runtime.Mount{Source: path, Destination: destination}), err
}

// hostsOfNode is what pods in the node's network see as their hosts, with
// their aliases added.
const hostsOfNode = "/etc/hosts"

func (a *agent) writeHosts(pod *corev1.Pod, sandbox network.Sandbox) (path string, err error) {
	uid := string(pod.UID)
	if pod.Spec.HostNetwork {
		node, err := os.ReadFile(hostsOfNode)
		if err != nil && !os.IsNotExist(err) {
			return "", err
		}
		text := append([]byte(volume.HostsHeadHostNetwork), node...)
		for _, alias := range pod.Spec.HostAliases {
			text = append(text, "\n"+alias.IP+"\t"+strings.Join(alias.Hostnames, "\t")+"\n"...)
		}
		path = filepath.Join(a.cfg.Volumes.Files(uid), "hosts")
		return path, os.WriteFile(path, text, 0o644)
	}
	hosts := volume.Hosts{IPs: []string{sandbox.IP.String()}, Hostname: hostname(pod, a.cfg.Node), Aliases: pod.Spec.HostAliases}
	hosts.Domain = hostDomain(pod, a.cfg.Domain)
	return a.cfg.Volumes.WriteHosts(uid, hosts)
}

func (a *agent) resolvFor(pod *corev1.Pod) (volume.Resolv, error) {
	text, err := os.ReadFile(a.cfg.ResolvConf)
	if err != nil && !os.IsNotExist(err) {
		return volume.Resolv{}, fmt.Errorf("resolv.conf of the node: %w", err)
	}
	cluster := volume.ClusterDNS{Domain: a.cfg.Domain}
	if a.cfg.DNS.IsValid() {
		cluster.Servers = []string{a.cfg.DNS.String()}
	}
	return volume.PodResolv(pod, cluster, volume.ParseResolvConf(text)), nil
}
