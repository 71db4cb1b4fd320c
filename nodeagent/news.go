package nodeagent

import (
	"context"
	"time"

	"github.com/evenkeel/evenkeel/nodeagent/images"
)

// news is what a worker may have waited for.
type news struct {
	refs    bool // config maps or secrets that the pod refers to
	images  bool // images were loaded
	network bool // the node has a range of addresses
	runtime bool // the container runtime answers, or no longer does
	mirror  bool // the store knows a static pod, or no longer does
	doom    *Doom
}

// retry lets be tried at once what the news may have mended.
func (w *worker) retry(n news) {
	for name, f := range w.failures {
		if n.mends(f.Reason) {
			f.RetryAt = time.Time{}
			w.failures[name] = f
		}
	}
}

// takeNews forgets failures that the news may have mended.
func (w *worker) takeNews(ctx context.Context) {
	w.mu.Lock()
	n := w.news
	w.news = news{}
	w.mu.Unlock()
	if w.doom == nil {
		w.doom = n.doom
	}
	w.retry(n)
	if n.refs && w.pod != nil && len(w.pod.Spec.ImagePullSecrets) > 0 {
		w.backoff = images.Backoff{}
	}
	if n.images {
		w.endNeedlessPulls(ctx)
	}
	if n.mirror && w.pod != nil && w.said.StartTime != nil {
		w.publish(w.pod, w.said, false)
	}
	if n.refs && w.prepared != nil && w.pod != nil {
		w.updateVolumes()
	}
}

func (n news) mends(reason string) bool {
	switch reason {
	case reasonConfig, reasonVolumes:
		return n.refs
	case reasonSandbox:
		return n.network
	case reasonInspect:
		return n.runtime
	}
	return (n.images || n.refs) && isImageReason(reason)
}
