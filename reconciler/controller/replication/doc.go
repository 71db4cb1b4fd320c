// Package replication keeps as many pods running as replication controllers
// ask for. Compute is its pure core; Run keeps all of a cluster's controllers.
//
// The control plane's leader runs it. It never creates more pods than asked:
// what it creates is guarded by its controller being as it was read and by the
// leader's term, and it decides again only on a mirror that has seen its last
// write.
package replication
