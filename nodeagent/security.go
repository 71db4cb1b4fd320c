package nodeagent

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// securityOf is what a container may do: what it says itself counts, and its
// pod's word where it says nothing.
func securityOf(pod *corev1.Pod, c *corev1.Container, seccompDir string) runtime.Security {
	var s runtime.Security
	s.AppArmor = appArmorOf(profileOf(pod, c.Name, c.SecurityContext))
	var profile *corev1.SeccompProfile
	if p := pod.Spec.SecurityContext; p != nil {
		s.RunAsUser, s.RunAsGroup = p.RunAsUser, p.RunAsGroup
		s.RunAsNonRoot = isTrue(p.RunAsNonRoot)
		s.SupplementalGroups = slices.Clone(p.SupplementalGroups)
		if p.FSGroup != nil {
			s.SupplementalGroups = append(s.SupplementalGroups, *p.FSGroup)
		}
		s.StrictGroups = p.SupplementalGroupsPolicy != nil && *p.SupplementalGroupsPolicy == corev1.SupplementalGroupsPolicyStrict
		profile = p.SeccompProfile
		s.SELinux = selinuxOf(p.SELinuxOptions)
	}
	sc := c.SecurityContext
	if sc == nil {
		s.Seccomp = seccompOf(profile, seccompDir)
		return s
	}
	if sc.RunAsUser != nil {
		s.RunAsUser = sc.RunAsUser
	}
	if sc.RunAsGroup != nil {
		s.RunAsGroup = sc.RunAsGroup
	}
	if sc.RunAsNonRoot != nil {
		s.RunAsNonRoot = *sc.RunAsNonRoot
	}
	if sc.SeccompProfile != nil {
		profile = sc.SeccompProfile
	}
	s.Seccomp = seccompOf(profile, seccompDir)
	if sc.SELinuxOptions != nil {
		s.SELinux = selinuxOf(sc.SELinuxOptions)
	}
	s.Privileged = isTrue(sc.Privileged)
	s.ReadOnlyRootfs = isTrue(sc.ReadOnlyRootFilesystem)
	s.NoNewPrivileges = sc.AllowPrivilegeEscalation != nil && !*sc.AllowPrivilegeEscalation
	s.UnmaskedProc = sc.ProcMount != nil && *sc.ProcMount == corev1.UnmaskedProcMount
	if sc.Capabilities != nil {
		for _, capability := range sc.Capabilities.Add {
			s.AddCapabilities = append(s.AddCapabilities, string(capability))
		}
		for _, capability := range sc.Capabilities.Drop {
			s.DropCapabilities = append(s.DropCapabilities, string(capability))
		}
	}
	return s
}

func isTrue(b *bool) bool { return b != nil && *b }

// seccompOf is the runtime's own profile unless another one is asked for.
func seccompOf(profile *corev1.SeccompProfile, dir string) runtime.Seccomp {
	switch {
	case profile == nil:
	case profile.Type == corev1.SeccompProfileTypeUnconfined:
		return runtime.Seccomp{Unconfined: true}
	case profile.Type == corev1.SeccompProfileTypeLocalhost && profile.LocalhostProfile != nil:
		return runtime.Seccomp{Profile: filepath.Join(dir, filepath.Clean("/"+*profile.LocalhostProfile))}
	}
	return runtime.Seccomp{}
}

// safeSysctls are those that a pod may set: they are its own, and do no harm
// to others (Kubernetes: "Safe and Unsafe Sysctls").
var safeSysctls = []string{
	"kernel.shm_rmid_forced",
	"net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start",
	"net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
	"net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem", "net.ipv4.tcp_slow_start_after_idle", "net.ipv4.tcp_notsent_lowat",
}

// sysctlsOf are the kernel settings of a pod's namespaces.
func sysctlsOf(pod *corev1.Pod) map[string]string {
	if pod.Spec.SecurityContext == nil || len(pod.Spec.SecurityContext.Sysctls) == 0 {
		return nil
	}
	out := map[string]string{}
	for _, s := range pod.Spec.SecurityContext.Sysctls {
		out[strings.ReplaceAll(s.Name, "/", ".")] = s.Value
	}
	return out
}

// refusal is why a node will not run a pod, or nil: a kernel setting that is
// not safe, or not the pod's own.
func refusal(pod *corev1.Pod) *Doom {
	for name := range sysctlsOf(pod) {
		why := ""
		switch {
		case !slices.Contains(safeSysctls, name):
			why = "not allowlisted"
		case strings.HasPrefix(name, "net.") && pod.Spec.HostNetwork:
			why = "not allowed with host net enabled"
		case strings.HasPrefix(name, "kernel.shm") && pod.Spec.HostIPC:
			why = "not allowed with host ipc enabled"
		}
		if why != "" {
			return &Doom{Reason: "SysctlForbidden", Message: fmt.Sprintf("forbidden sysctl: %q %s", name, why)}
		}
	}
	return nil
}
