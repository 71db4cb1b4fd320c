package volume

import "path/filepath"

// Dir is where a volume of a pod lies that is neither a path of the node nor a
// claim's. It need not exist.
func (m *Manager) Dir(podUID, name string) string {
	return filepath.Join(m.dir, podUID, "volumes", name)
}
