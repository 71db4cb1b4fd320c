// Package containerd runs a node's containers on containerd, as
// runtime.Runtime asks. The node agent's command builds one Runtime per node;
// nothing else talks to containerd.
//
// Everything it knows of a container is kept by containerd (as labels) and by
// the kernel (as cgroups): a Runtime that is killed and made again tells the
// same. It never decides whether a container should run, restart or go.
package containerd
