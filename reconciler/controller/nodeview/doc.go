// Package nodeview keeps, for every node, all that its agent may read: the
// node itself, its pods as bound, the config maps, secrets and claims that those
// refer to with their volumes, whom to trust, and where the other nodes are. Compute is its pure core.
//
// The control plane's leader runs it. The bindings of pods are written with
// the pods; this package only repairs them.
package nodeview
