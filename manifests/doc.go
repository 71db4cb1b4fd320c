// Package manifests reads what people declare: it takes snapshots of sources
// (a git repository, a directory) and turns their files into sets of objects,
// defaulted and validated exactly as Kubernetes does, in which every object
// and every field knows the file, line and column that it came from.
//
// The reconciler calls it. It reads files only through a Snapshot, applies
// nothing, knows nothing of what runs, and never passes over a mistake: what
// it cannot take as it is written is a Diagnostic.
package manifests
