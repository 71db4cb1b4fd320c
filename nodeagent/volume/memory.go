package volume

import (
	"fmt"
	"os"
	"path/filepath"
)

// SharedMemory makes the memory file system that a pod's containers share at
// /dev/shm, and returns its path.
func (m *Manager) SharedMemory(podUID string) (path string, err error) {
	dir, err := m.podDir(podUID)
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "shm")
	if err := os.MkdirAll(path, 0o755); err != nil {
		return "", fmt.Errorf("make shared memory of pod %s: %w", podUID, err)
	}
	if err := mountTmpfs(path, "mode=1777,size=65536k"); err != nil {
		return "", fmt.Errorf("make shared memory of pod %s: %w", podUID, err)
	}
	return path, nil
}
