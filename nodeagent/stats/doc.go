// Package stats measures a node, its pods and its containers from cgroups and
// /proc, and says it in the kubelet's words: the summary API and the metrics of
// /metrics/resource. The node agent's server asks it.
//
// It measures when it is asked and never by itself.
package stats
