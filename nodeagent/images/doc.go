// Package images decides about container images as the kubelet does: whether
// one has to be pulled and with which credentials, how long a failed pull
// waits, and which images go when the disk is full.
//
// The node agent calls it. It pulls and removes nothing, and does no I/O.
package images
