// Package access says who may do what through the API: certificates and the
// tokens of service accounts tell who calls, Kubernetes' RBAC what they may,
// and an audit log what they did.
//
// The control plane puts it together with the API server. It reads objects
// from a mirror and writes none; Bootstrap is what a controller keeps there.
package access
