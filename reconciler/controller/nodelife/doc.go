// Package nodelife registers the nodes whose agents report, gives each node
// its range of pod addresses, and takes the pods off nodes that died.
//
// The control plane's leader runs it. It never evicts from a cluster of one
// node, never right after it has started, and not while most nodes seem to be
// gone at once: then it is more likely we who are cut off.
package nodelife
