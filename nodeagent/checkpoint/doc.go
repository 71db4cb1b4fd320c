// Package checkpoint keeps on the machine's disk what its node agent needs to
// go on without the store: the bindings as last seen, and the pod statuses as
// last said. With it a node that is started while etcd is away runs its last
// known pods, and restart counts outlive the agent.
//
// The node agent's wiring is the only caller. It knows keys and bytes, and
// nothing of what they mean.
package checkpoint
