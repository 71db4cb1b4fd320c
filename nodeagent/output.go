package nodeagent

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/logs"
	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// logOf names the log of a container that is being started.
func logOf(spec runtime.Container) logs.Container {
	return logs.Container{
		ID: spec.ID, UID: spec.Pod.UID, Namespace: spec.Pod.Namespace, Pod: spec.Pod.Name,
		Name: spec.Name, Attempt: spec.Attempt, TTY: spec.TTY,
	}
}

// openLog says where a container's standard streams lead.
func (w *worker) openLog(spec *runtime.Container, c *corev1.Container) error {
	spec.Stdin, spec.TTY = c.Stdin, c.TTY
	spools, err := w.agent.cfg.Logs.Open(logOf(*spec))
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	spec.Stdout, spec.Stderr = spools.Stdout, spools.Stderr
	return nil
}
