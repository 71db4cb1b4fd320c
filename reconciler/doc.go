// Package reconciler makes the registries hold what the sources declare.
//
// Diff compares what is declared with what was applied before and what is
// there, and returns a Plan; it is pure. Apply writes a plan. Run follows
// sources and the registries and does both whenever one of them moves, so that
// a change behind git's back is put right as it happens.
//
// It deletes only what its inventory says that the same source applied before,
// and never on a read that failed. It makes no pods for controllers and places
// none: those are the rooms below it.
package reconciler
