// Package nodelife registers the nodes whose agents report, gives each node
// its range of pod addresses, and taints nodes that report pressure, are not
// ready, or died. Another controller takes their pods away for it.
//
// The control plane's leader runs it. It says of no node that it died in a
// cluster of one, never right after it has started, and not while most nodes
// seem to be gone at once: then it is more likely we who are cut off.
package nodelife
