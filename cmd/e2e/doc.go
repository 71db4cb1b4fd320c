// Package e2e tests the three programs as a person runs them: built, started
// in network namespaces that each test makes, with real etcd, containerd, runc
// and nftables, and fed from real git repositories. Nothing calls it but
// `go test`; it never reaches into a running program, only looks at what the
// programs leave in etcd and on the machine.
package e2e
