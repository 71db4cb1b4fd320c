// Package scheduler gives pods to nodes. Schedule is its pure core: pods and
// the State of the nodes in, bindings and reasons out. Run keeps a State up
// from a mirror, and binds.
//
// The control plane's leader runs it. It never moves a pod that is bound and
// writes nothing but bindings and, for a pod that fits nowhere, the condition
// that says why.
package scheduler
