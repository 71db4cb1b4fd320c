package nodeagent

import (
	"context"
	"errors"
	"time"

	"github.com/evenkeel/evenkeel/nodeagent/volume"
)

const (
	// sentSoon is how long the first preparation of a pod waits for what follows
	// its binding, its tokens for one. Longer, and the pod's status says what is
	// missing.
	sentSoon = 250 * time.Millisecond
	// sentWithin is how long it may take before it is worth a word.
	sentWithin = 2 * time.Second
)

// onItsWay reports whether a volume waits for what has had no time to come.
func (w *worker) onItsWay(container string, err error) bool {
	return errors.Is(err, volume.ErrMissingReference) && time.Since(w.failures[container].Since) < sentWithin
}

// prepareVolumes makes the pod's volumes. The first time it waits a moment for
// what they are made of: a try that fails costs a pod's start more than the
// moment, and its status a write.
func (w *worker) prepareVolumes(ctx context.Context) (paths map[string]string, err error) {
	prepare := func() { paths, err = w.agent.cfg.Volumes.Prepare(ctx, w.pod, w.agent.refs()) }
	prepare()
	if w.failures[""].Tries > 0 || !errors.Is(err, volume.ErrMissingReference) {
		return paths, err
	}
	late := time.NewTimer(sentSoon)
	defer late.Stop()
	defer poke(w.awake) // for all else that it is woken for meanwhile
	for errors.Is(err, volume.ErrMissingReference) && w.agent.bindings.pod(w.uid) == w.asked {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-late.C:
			return nil, err
		case <-w.awake:
			prepare()
		}
	}
	return paths, err
}
