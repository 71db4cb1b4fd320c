// Package eviction takes pods off the nodes whose NoExecute taints they do not
// tolerate: at once, or when the seconds of their tolerations have passed
// (Kubernetes: "Taints and Tolerations", pkg/controller/tainteviction).
//
// The control plane's leader runs it. It sets no taints: people and git do, and
// nodelife does for nodes that are gone or cannot run pods. Static pods and
// pods that have finished stay.
package eviction
