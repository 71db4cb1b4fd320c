package containerd

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"

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

// loaded is whether the runtime's own profile has been loaded.
type loaded struct {
	mu  sync.Mutex
	yes bool
}

// appArmor is appArmorOf with a profile that the kernel has.
func (r *Runtime) appArmor(sec rt.Security) (profile string, err error) {
	profile, err = appArmorOf(sec, r.machine.appArmor)
	switch {
	case err != nil || profile == "":
		return "", err
	case profile == defaultAppArmor:
		return profile, r.loadDefault()
	}
	list, err := os.ReadFile("/sys/kernel/security/apparmor/profiles")
	if err != nil {
		return "", fmt.Errorf("list AppArmor profiles: %w", err)
	}
	if !hasProfile(list, profile) {
		return "", fmt.Errorf("%w: AppArmor profile %q is not loaded on this machine: load it with apparmor_parser", rt.ErrConfig, profile)
	}
	return profile, nil
}

func (r *Runtime) loadDefault() error {
	r.profile.mu.Lock()
	defer r.profile.mu.Unlock()
	if r.profile.yes {
		return nil
	}
	if err := apparmor.LoadDefaultProfile(defaultAppArmor); err != nil {
		return fmt.Errorf("%w: load AppArmor profile %s: %w", rt.ErrConfig, defaultAppArmor, err)
	}
	r.profile.yes = true
	return nil
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
