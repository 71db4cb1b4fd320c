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
