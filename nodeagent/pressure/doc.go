// Package pressure decides what a node does when it runs out of memory, disk or
// process IDs, as the kubelet does (Kubernetes: "Node-pressure Eviction"):
// which conditions it reports, whether it must act, which pod goes first, and
// what is said of that pod. Machine measures the machine.
//
// The node agent calls it, reclaims and evicts. Nothing here ends a pod.
package pressure
