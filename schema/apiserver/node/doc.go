// Package node serves what only a node's agent can answer: the logs of a pod,
// a shell in it, a port of it, what listens there, and what it uses. Requests
// are carried to the agent's server, which speaks the paths of the kubelet; it
// is the way to pods too, to which the API's machine need not have one.
//
// schema/apiserver installs its storage. It keeps nothing.
package node
