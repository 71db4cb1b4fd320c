package containerd

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"

	"github.com/containerd/containerd/v2/contrib/apparmor"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// defaultAppArmor is the name under which the runtime's own profile is loaded.
const defaultAppArmor = "evenkeel-default"

// appArmorOf is the profile of a container on a machine that has AppArmor, or
// not; "" for none. Pure.
func appArmorOf(sec rt.Security, enabled bool) (profile string, err error) {
	asked := sec.AppArmor
	switch {
	case !enabled && (asked.Required || asked.Profile != ""):
		return "", fmt.Errorf("%w: AppArmor is not enabled on this machine, or apparmor_parser is not installed", rt.ErrConfig)
	case !enabled, asked.Unconfined:
		return "", nil
	case asked.Profile != "":
		return asked.Profile, nil
	case sec.Privileged:
		return "", nil
	}
	return defaultAppArmor, nil
}

// appArmor is appArmorOf with a profile that the kernel has: the runtime's own
// is loaded where it is not, also after somebody unloaded it.
func (r *Runtime) appArmor(sec rt.Security) (profile string, err error) {
	profile, err = appArmorOf(sec, r.machine.appArmor)
	if err != nil || profile == "" {
		return "", err
	}
	r.loading.Lock()
	defer r.loading.Unlock()
	list, err := os.ReadFile("/sys/kernel/security/apparmor/profiles")
	if err != nil {
		return "", fmt.Errorf("list AppArmor profiles: %w", err)
	}
	switch {
	case hasProfile(list, profile):
		return profile, nil
	case profile != defaultAppArmor:
		return "", fmt.Errorf("%w: AppArmor profile %q is not loaded on this machine: load it with apparmor_parser", rt.ErrConfig, profile)
	}
	if err := apparmor.LoadDefaultProfile(profile); err != nil {
		return "", fmt.Errorf("%w: load AppArmor profile %s: %w", rt.ErrConfig, profile, err)
	}
	return profile, nil
}

// hasProfile looks for a profile in the kernel's list: "NAME (MODE)" lines.
func hasProfile(list []byte, profile string) bool {
	for lines := bufio.NewScanner(bytes.NewReader(list)); lines.Scan(); {
		if i := strings.LastIndex(lines.Text(), " ("); i >= 0 && lines.Text()[:i] == profile {
			return true
		}
	}
	return false
}
