// Package conformance holds the tests that run pods on a real containerd and
// look at them from outside and inside: each behaviour that Kubernetes
// promises of a pod has one that is named for it. There is nothing here but
// tests.
package conformance
