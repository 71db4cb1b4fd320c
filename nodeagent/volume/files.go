package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// maxTerminationMessage is how much of a termination log counts, in bytes.
const maxTerminationMessage = 4096

// Files is the pod's directory for generated files: /etc/hosts,
// /etc/resolv.conf and termination logs. It is made when the first is written.
func (m *Manager) Files(podUID string) (dir string) {
	return filepath.Join(m.dir, podUID, "files")
}

// WriteHosts writes the pod's /etc/hosts and returns its path.
func (m *Manager) WriteHosts(podUID string, hosts Hosts) (path string, err error) {
	return m.writeFile(podUID, "hosts", hosts.Render())
}

// WriteResolvConf writes the pod's /etc/resolv.conf and returns its path.
func (m *Manager) WriteResolvConf(podUID string, conf Resolv) (path string, err error) {
	return m.writeFile(podUID, "resolv.conf", conf.Render())
}

// TerminationLog makes an empty file that every user may write, for one start
// of a container, and returns its path.
func (m *Manager) TerminationLog(podUID, container string, attempt int) (path string, err error) {
	path, err = m.writeFile(podUID, "termination-"+container+"-"+strconv.Itoa(attempt), nil)
	if err != nil {
		return "", err
	}
	if err := os.Chmod(path, 0o666); err != nil {
		return "", fmt.Errorf("open termination log: %w", err)
	}
	return path, nil
}

// ReadTerminationLog returns what one start of a container has left as its
// message, at most 4096 bytes. Empty if there is none. A container may have
// put anything there: what is not a plain file is not read.
func (m *Manager) ReadTerminationLog(podUID, container string, attempt int) string {
	path := filepath.Join(m.Files(podUID), "termination-"+container+"-"+strconv.Itoa(attempt))
	log, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer log.Close()
	if info, err := log.Stat(); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	data, err := io.ReadAll(io.LimitReader(log, maxTerminationMessage))
	if err != nil {
		return ""
	}
	return string(bytes.ToValidUTF8(data, []byte("�")))
}

// writeFile writes in place: a rename would leave running containers with the
// file they have mounted.
func (m *Manager) writeFile(podUID, name string, data []byte) (string, error) {
	if _, err := m.podDir(podUID); err != nil {
		return "", err
	}
	path := filepath.Join(m.Files(podUID), name)
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return path, nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("write %s of pod %s: %w", name, podUID, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", fmt.Errorf("write %s of pod %s: %w", name, podUID, err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return "", fmt.Errorf("write %s of pod %s: %w", name, podUID, err)
	}
	return path, nil
}

// Hosts is what a pod's /etc/hosts says.
type Hosts struct {
	IPs      []string // the pod's own
	Hostname string
	Domain   string // of the hostname, when the pod has a subdomain: "sub.ns.svc.cluster.local"
	Aliases  []corev1.HostAlias
}

// The first line of a pod's hosts is the kubelet's own: programs know a managed
// file by it. In the node's network the node's lines follow it.
const (
	HostsHeadHostNetwork = "# Kubernetes-managed hosts file (host network).\n"

	hostsHead = `# Kubernetes-managed hosts file.
127.0.0.1	localhost
::1	localhost ip6-localhost ip6-loopback
fe00::	ip6-localnet
fe00::	ip6-mcastprefix
fe00::1	ip6-allnodes
fe00::2	ip6-allrouters
`
)

// Render is the file's text. Pure.
func (h Hosts) Render() []byte {
	var b bytes.Buffer
	b.WriteString(hostsHead)
	for _, ip := range h.IPs {
		names := h.Hostname
		if h.Domain != "" {
			names = h.Hostname + "." + h.Domain + "\t" + h.Hostname
		}
		fmt.Fprintf(&b, "%s\t%s\n", ip, names)
	}
	for _, alias := range h.Aliases {
		fmt.Fprintf(&b, "%s\t%s\n", alias.IP, strings.Join(alias.Hostnames, "\t"))
	}
	return b.Bytes()
}
