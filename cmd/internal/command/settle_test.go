package command

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestMappings finds what can be dropped, and nothing that was written to.
func TestMappings(t *testing.T) {
	const maps = `00400000-0323b000 r-xp 00000000 fe:00 9997094                            /opt/even keel/reconcile
0323b000-063bf000 r--p 02e3b000 fe:00 9997094                            /opt/even keel/reconcile
063bf000-0651b000 rw-p 05fbf000 fe:00 9997094                            /opt/even keel/reconcile
0651b000-0657a000 rw-p 00000000 00:00 0
c000000000-c000400000 rw-p 00000000 00:00 0
7f1200000000-7f1200021000 r--p 00000000 fe:00 1234                       /usr/lib/other
7fff0000-7fff1000 r-xp 00000000 00:00 0                                  [vdso]
`
	want := []mapping{{0x400000, 0x323b000}, {0x323b000, 0x63bf000}}
	if diff := cmp.Diff(want, mappings(strings.NewReader(maps), "/opt/even keel/reconcile"), cmp.AllowUnexported(mapping{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestReleaseProgram goes on after its own code was dropped.
func TestReleaseProgram(t *testing.T) {
	for range 3 {
		releaseProgram()
	}
}
