// Package garbage removes what nobody needs any more: objects whose owners are
// gone, as their owners' deletion said (Kubernetes' garbage collection, in the
// background, in the foreground or not at all); pods that have ended as they
// were told, those of nodes that are no more, and the oldest of those that
// have finished; and what agents said of pods that are gone.
//
// The control plane's leader runs it. Every removal is guarded by what makes
// it right: that the owner, the node or the pod is gone.
package garbage
