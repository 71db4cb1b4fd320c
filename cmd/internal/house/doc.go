// Package house holds the rules of this code base that a compiler does not
// know: which package may import which, what every package must say of
// itself, what no test may do. Its tests run them over the whole project and
// hold docs/errors.md current; nothing else calls it.
//
// A rule is a function from a Tree to its Violations and does no I/O. To let
// a package do what it may not, change the table in walls.go and say there
// why.
package house
