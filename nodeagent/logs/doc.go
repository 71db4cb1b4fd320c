// Package logs keeps what containers write, in the format and at the place
// where Kubernetes' tools look for it: /var/log/pods, as CRI log files,
// rotated by size.
//
// A container's shim appends raw bytes to two regular files, its spools, so
// that a container never waits for anybody and nothing is lost while no agent
// runs. The Manager follows the spools, turns them into log files, and frees
// what it has read. After each step it notes how far it came, so that a
// successor of one that was killed writes each line exactly once.
//
// A spool that fills the disk, so that not even the log can be written, is cut
// to its end, and the log says what is missing. Where a shim could not write,
// because the disk was full, it gives up for good: then the Manager reads the
// container's pipes in its place.
//
// The node agent calls it: Open before a container starts, Keep while it runs,
// Read and Attach for its server, RemovePod when a pod is gone. It knows nothing
// of container runtimes and never starts or ends anything.
package logs
