// Package pki is what a cluster trusts: its certificate authority and the key
// that signs the tokens of service accounts, both kept in the store, and the
// short-lived certificates issued by it.
//
// The control plane calls it, and the command that prints a kubeconfig. It
// never writes a private key of the cluster anywhere but to the store, and
// logs none.
package pki
