package containerd

import (
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// defaultCapabilities are those that containerd's CRI gives a container.
func defaultCapabilities() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW",
		"CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE",
		"CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
	}
}

// buildCapabilities applies what is added, then what is dropped; "ALL" counts
// before the single names, as Kubernetes has it. all is what there is to give.
func buildCapabilities(sec rt.Security, all []string) *specs.LinuxCapabilities {
	caps := capabilityList(sec, all)
	return &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
}

func capabilityList(sec rt.Security, all []string) []string {
	if sec.Privileged {
		return slices.Clone(all)
	}
	caps := defaultCapabilities()
	if slices.ContainsFunc(sec.AddCapabilities, isAll) {
		caps = slices.Clone(all)
	}
	if slices.ContainsFunc(sec.DropCapabilities, isAll) {
		caps = nil
	}
	for _, name := range sec.AddCapabilities {
		if !isAll(name) && !slices.Contains(caps, capability(name)) {
			caps = append(caps, capability(name))
		}
	}
	for _, name := range sec.DropCapabilities {
		caps = slices.DeleteFunc(caps, func(have string) bool { return have == capability(name) })
	}
	return caps
}

func isAll(name string) bool { return strings.EqualFold(name, "ALL") }

func capability(name string) string {
	name = strings.ToUpper(name)
	if strings.HasPrefix(name, "CAP_") {
		return name
	}
	return "CAP_" + name
}
