// Package registry keeps the objects: a Store of bytes with revisions beneath,
// Registries of typed objects with their rules above, and a Mirror that holds
// them in memory for whoever decides.
//
// Controllers, the reconciler, the API and the node agents use it; it is the
// only place where an object is created, changed or deleted. It knows no etcd:
// registry/etcd and registry/memory implement Store, and registry/registrytest
// is the suite that both pass.
package registry
