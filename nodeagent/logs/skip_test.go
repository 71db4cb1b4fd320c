package logs

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/evenkeel/evenkeel/testdata/requires"
)

// TestSpoolFillsTheDisk: a container that fills the disk while no agent runs
// loses the most of that, which is said; what it says last is kept, and
// everybody's log goes on.
func TestSpoolFillsTheDisk(t *testing.T) {
	requires.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("evenkeel-test", dir, "tmpfs", 0, "size=16m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	k := newKeeper(t, func(c *Config) {
		c.Dir, c.LogDir, c.LinkDir = dir+"/spools", dir+"/pods", dir+"/containers"
	})
	flood, quiet := container(0), Container{ID: "u2-main-0", UID: "u2", Namespace: "default", Pod: "quiet", Name: "main"}
	loud, still := k.open(flood), k.open(quiet)
	still.write(0, "before\n")
	k.await("written", func() bool { return strings.Contains(k.read(quiet, all()), "before") })
	k.stop()
	last := 0
	for ; ; last++ {
		if _, err := fmt.Fprintf(loud.out[0], "line %07d of a flood\n", last); errors.Is(err, unix.ENOSPC) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	k.start()
	k.await("freed", func() bool { return strings.Contains(k.read(flood, all()), fmt.Sprintf("line %07d of", last-1)) })
	still.write(0, "after\n")
	k.await("written again", func() bool { return strings.Contains(k.read(quiet, all()), "after") })
	loud.close()
	k.ended(flood)
	text := k.read(flood, all())
	at, told := -1, false
	for line := range strings.Lines(text) {
		var n int
		if _, err := fmt.Sscanf(line, "line %d of a flood\n", &n); err != nil {
			told = told || strings.HasSuffix(line, "bytes of output are missing here: the disk was full]\n")
			continue
		}
		if at >= 0 && n != at+1 && !told {
			t.Fatalf("%d follows %d, and nothing is said", n, at)
		}
		at, told = n, false
	}
}
