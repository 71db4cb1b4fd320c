// Package binder gives claims their persistent volumes, says of both how they
// stand, and keeps from being removed what is still in use. It does the part
// of Kubernetes' persistent volume controller that makes no volumes: those
// come from whoever declares them.
//
// The control plane's leader runs it; reconciler/volumes decides. A claim that
// waits for its first pod is given a volume on the node that the scheduler
// writes on it. A volume that its claim has left stays as it is: what lies on
// a machine is never deleted here.
package binder
