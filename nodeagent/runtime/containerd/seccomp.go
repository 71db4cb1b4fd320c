package containerd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// protect sets what keeps a container's processes apart beside namespaces and
// capabilities: its seccomp profile, if it is one of the machine's, its AppArmor
// profile and its SELinux labels.
func (r *Runtime) protect(spec *specs.Spec, c rt.Container) (err error) {
	if c.Security.Seccomp.Profile != "" && spec.Linux.Seccomp != nil {
		if spec.Linux.Seccomp, err = readSeccomp(c.Security.Seccomp.Profile); err != nil {
			return err
		}
	}
	if spec.Process.ApparmorProfile, err = r.appArmor(c.Security); err != nil {
		return err
	}
	spec.Process.SelinuxLabel, spec.Linux.MountLabel = labelsOf(c.Security, c.Pod.UID, r.machine.selinux)
	return relabel(c.Mounts, spec.Linux.MountLabel)
}

// readSeccomp reads a profile of the machine's.
func readSeccomp(path string) (*specs.LinuxSeccomp, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: seccomp profile %s is not on this machine", rt.ErrConfig, path)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: seccomp profile: %w", rt.ErrConfig, err)
	}
	var profile specs.LinuxSeccomp
	if err := json.Unmarshal(data, &profile); err != nil {
		return nil, fmt.Errorf("%w: seccomp profile %s: %w", rt.ErrConfig, path, err)
	}
	return &profile, nil
}
