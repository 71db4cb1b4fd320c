// Package schema holds the kinds that Evenkeel knows: Kubernetes' own Go types
// from k8s.io/api, the table that says what each kind is called and how it is
// kept, the storage codec, and the keys under which everything lies in etcd.
//
// Every other package builds on it. It imports no room of Evenkeel, does no
// I/O and keeps no state.
package schema
