// Package garbage removes pods, and what agents said of pods, that nobody
// needs any more: those whose owner is gone, those that have ended as they
// were told, those of nodes that are no more, and the oldest of those that
// have finished.
//
// The control plane's leader runs it. Every removal is guarded by what makes
// it right: that the owner, the node or the pod is gone.
package garbage
