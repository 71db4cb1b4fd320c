// Package storage is the registries as k8s.io/apiserver wants them: a
// rest.Storage for every kind, and for what hangs below it (status, scale, a
// pod's binding and eviction).
//
// schema/apiserver installs what New returns. The package adds no rule about
// objects: what may be written, and what a write does, the registries say.
// Lists and watches come from memory where feed has it.
package storage
