// Package requires ends tests that their machine cannot run: as skipped, or
// with an error where every test has to run, which is where CI is "true". Only
// tests import it.
package requires

import (
	"os"
	"os/exec"
	"testing"
)

// Root ends a test that is not run by root.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Unmet(t, "needs root")
	}
}

// Programs ends a test where one of these is not installed.
func Programs(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			Unmet(t, name+" is not installed")
		}
	}
}

// Unmet ends a test, and says why.
func Unmet(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}
