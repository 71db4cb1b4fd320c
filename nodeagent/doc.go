// Package nodeagent runs the pods that are bound to one machine.
//
// It watches its own bindings in the store and nothing else, gives each pod a
// worker, and reports each pod's status. What to do next is decided by Step
// and said by Status, which are pure; the rest is the thin shell that asks the
// runtime, the network and the volumes to do it.
//
// It never decides which pods a machine has, and never takes a read that
// failed, or that lacks the mark of its node, for "no pods".
package nodeagent
