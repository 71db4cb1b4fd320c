package nodeagent

import (
	"context"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/logs"
	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// How much of what a container left counts (Kubernetes: "Customizing the
// termination message").
const (
	maxMessages      = 12 << 10 // bytes, of all containers of a pod
	maxFallbackBytes = 2048
	maxFallbackLines = 80
	tailWait         = 2 * time.Second
)

// terminationMessage is what an exited container left in its file or, if it
// failed, asked for that and left nothing, the end of its log.
func (w *worker) terminationMessage(ctx context.Context, c *runtime.Status) string {
	message := w.agent.cfg.Volumes.ReadTerminationLog(w.uid, c.Name, c.Attempt)
	if w.pod == nil {
		return message
	}
	spec := containerNamed(w.pod, c.Name)
	if message == "" && c.ExitCode != 0 && spec.TerminationMessagePolicy == corev1.TerminationMessageFallbackToLogsOnError {
		message = w.logTail(ctx, c, spec.TTY)
	}
	share := maxMessages / max(1, len(w.pod.Spec.InitContainers)+len(w.pod.Spec.Containers)+len(w.pod.Spec.EphemeralContainers))
	if len(message) > share {
		message = strings.ToValidUTF8(message[:share], "")
	}
	return message
}

func (w *worker) logTail(ctx context.Context, c *runtime.Status, tty bool) string {
	ctx, cancel := context.WithTimeout(ctx, tailWait)
	defer cancel()
	tail, err := w.agent.cfg.Logs.Tail(ctx, logs.Container{
		ID: c.ID, UID: c.Pod.UID, Namespace: c.Pod.Namespace, Pod: c.Pod.Name, Name: c.Name, Attempt: c.Attempt, TTY: tty,
	}, maxFallbackLines, maxFallbackBytes)
	if err != nil {
		w.agent.cfg.Logger.Warn("log not read for a termination message", "pod", nameOf(w.pod), "container", c.Name, "error", err)
	}
	return tail
}
