// Package node serves what only a node's agent can answer: the logs of a pod,
// a shell in it, a port of it, and what it uses. Requests are carried to the
// agent's server, which speaks the paths of the kubelet.
//
// schema/apiserver installs its storage. It keeps nothing.
package node
