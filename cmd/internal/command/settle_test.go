package command

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestMappings finds what can be dropped, and nothing that was written to.
func TestMappings(t *testing.T) {
	const maps = `00400000-0323b000 r-xp 00000000 fe:00 9997094                            /opt/even keel/reconcile
Size:                  8 kB
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd mr mw me
0323b000-063bf000 r--p 02e3b000 fe:00 9997094                            /opt/even keel/reconcile
Size:                  8 kB
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd mr mw me
063bf000-063c0000 r--p 02e3c000 fe:00 9997094                            /opt/even keel/reconcile
Size:                  8 kB
Anonymous:             4 kB
Swap:                  0 kB
VmFlags: rd mr mw me
063c0000-063c1000 r--p 02e3d000 fe:00 9997094                            /opt/even keel/reconcile
Size:                  8 kB
Anonymous:             0 kB
Swap:                  4 kB
VmFlags: rd mr mw me
063c1000-0651b000 rw-p 05fbf000 fe:00 9997094                            /opt/even keel/reconcile
Size:                  8 kB
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd mr mw me
0651b000-0657a000 rw-p 00000000 00:00 0
Size:                  8 kB
Anonymous:             8 kB
Swap:                  0 kB
VmFlags: rd mr mw me
7f1200000000-7f1200021000 r--p 00000000 fe:00 1234                       /usr/lib/other
Size:                  8 kB
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd mr mw me
7fff0000-7fff1000 r-xp 00000000 00:00 0                                  [vdso]
Size:                  8 kB
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd mr mw me
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
