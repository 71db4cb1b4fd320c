package nodeagent

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// reasonAppArmor is as the kubelet gives it.
const reasonAppArmor = "AppArmor"

// profileOf is the AppArmor profile of a container: its own, that of an
// annotation, which preceded the field, or its pod's; nil if nothing is said.
func profileOf(pod *corev1.Pod, name string, own *corev1.SecurityContext) *corev1.AppArmorProfile {
	if own != nil && own.AppArmorProfile != nil {
		return own.AppArmorProfile
	}
	if profile := annotatedProfile(pod.Annotations[corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix+name]); profile != nil {
		return profile
	}
	if sc := pod.Spec.SecurityContext; sc != nil {
		return sc.AppArmorProfile
	}
	return nil
}

// annotatedProfile reads an annotation; nil for none, and for what is no
// profile.
func annotatedProfile(value string) *corev1.AppArmorProfile {
	name, local := strings.CutPrefix(value, corev1.DeprecatedAppArmorBetaProfileNamePrefix)
	switch {
	case value == corev1.DeprecatedAppArmorBetaProfileRuntimeDefault:
		return &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeRuntimeDefault}
	case value == corev1.DeprecatedAppArmorBetaProfileNameUnconfined:
		return &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined}
	case local:
		return &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeLocalhost, LocalhostProfile: &name}
	}
	return nil
}

func appArmorOf(profile *corev1.AppArmorProfile) runtime.AppArmor {
	switch {
	case profile == nil:
		return runtime.AppArmor{}
	case profile.Type == corev1.AppArmorProfileTypeUnconfined:
		return runtime.AppArmor{Unconfined: true}
	case profile.Type == corev1.AppArmorProfileTypeLocalhost && profile.LocalhostProfile != nil:
		return runtime.AppArmor{Required: true, Profile: *profile.LocalhostProfile}
	}
	return runtime.AppArmor{Required: true}
}

// unenforceable is why a pod cannot have the AppArmor profiles that it asks
// for, or nil. enabled says whether the machine has AppArmor.
func unenforceable(pod *corev1.Pod, enabled bool) *Doom {
	why := ""
	if sc := pod.Spec.SecurityContext; sc != nil && !enabled && confines(sc.AppArmorProfile) {
		why = "AppArmor is not enabled on the host"
	}
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		profile := profileOf(pod, c.Name, c.SecurityContext)
		switch {
		case !confines(profile):
		case !enabled:
			why = "AppArmor is not enabled on the host"
		case profile.Type == corev1.AppArmorProfileTypeLocalhost && (profile.LocalhostProfile == nil || strings.TrimSpace(*profile.LocalhostProfile) == ""):
			why = fmt.Sprintf("invalid empty AppArmor profile name of container %s", c.Name)
		}
	}
	if why == "" {
		return nil
	}
	return &Doom{Reason: reasonAppArmor, Message: "Cannot enforce AppArmor: " + why}
}

func confines(profile *corev1.AppArmorProfile) bool {
	return profile != nil && profile.Type != corev1.AppArmorProfileTypeUnconfined
}

// hasAppArmor reports whether the machine's kernel enforces AppArmor profiles.
var hasAppArmor = sync.OnceValue(func() bool {
	if _, err := os.Stat("/sys/kernel/security/apparmor"); err != nil {
		return false
	}
	enabled, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	return err == nil && strings.HasPrefix(string(enabled), "Y")
})
