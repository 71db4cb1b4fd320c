package nodeagent

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/volume"
)

// turnToStart waits until the container may be started. One that has a volume
// on a server takes nobody's turn: its start may have to wait for the server,
// and holds up its own pod alone.
func (w *worker) turnToStart(ctx context.Context, c *corev1.Container) (release func(), err error) {
	remote := w.remoteVolumes(c)
	for _, name := range remote {
		if err := w.agent.cfg.Volumes.Answers(ctx, w.uid, name); err != nil {
			return nil, w.fail(ctx, c.Name, reasonConfig, err)
		}
	}
	if len(remote) > 0 {
		return func() {}, nil
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case w.agent.slots <- struct{}{}:
	}
	return func() { <-w.agent.slots }, nil
}

// remoteVolumes are the volumes of a container that are on a server.
func (w *worker) remoteVolumes(c *corev1.Container) []string {
	var out []string
	for i := range w.pod.Spec.Volumes {
		v := &w.pod.Spec.Volumes[i]
		l, ok, err := volume.FindLasting(w.pod, v, w.agent.bindings)
		if !ok || err != nil || !l.Remote() {
			continue
		}
		for _, m := range c.VolumeMounts {
			if m.Name == v.Name {
				out = append(out, v.Name)
				break
			}
		}
	}
	return out
}
