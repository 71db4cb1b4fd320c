// Package server answers what the API asks of a node: logs, commands in
// containers, attaching to them, their ports, and statistics, at the paths and
// in the protocols of the kubelet. The node agent runs one.
//
// Only the API may ask: its client certificate is checked against an authority
// that the control plane writes into the node's bindings. The server's own
// certificate is made anew at each start, and published by its hash.
package server
