// Package controller is what all controllers have in common: a Loop that works
// the keys of what changed in a mirror, and a Writer whose writes are seen
// before anything is decided again.
//
// Every package below it is one controller; they know nothing of one another.
// The control plane's leader runs them, by way of controller/manager.
package controller
