package command

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// settleAfter is when a program that starts has started.
const settleAfter = 5 * time.Second

// Settle waits until the program has started, and then gives back the memory
// that only its start needed: the free heap, and the pages of the program
// itself, as initialising a thousand packages touches most of them once. What
// is run again is mapped again, from the page cache.
func Settle(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(settleAfter):
	}
	debug.FreeOSMemory()
	releaseProgram()
	return nil
}

// releaseProgram unmaps the pages of this program's code and constants. It does
// nothing where the system does not say where these are.
func releaseProgram() {
	file, err := os.Open("/proc/self/smaps")
	if err != nil {
		return
	}
	defer file.Close()
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	for _, m := range mappings(file, self) {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, unix.MADV_DONTNEED) // else they stay
	}
}

// mapping is a range of addresses.
type mapping struct{ start, end uintptr }

// mappings returns where a file is mapped that nobody can write to and nobody
// has written to: what is dropped there can be read again (proc(5),
// /proc/pid/smaps). A program that is linked dynamically has pages that were
// written to as it was loaded and made read-only then.
func mappings(smaps io.Reader, path string) []mapping {
	var out []mapping
	ours := false // the lines are those of the last of out
	for lines := bufio.NewScanner(smaps); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) > 1 && strings.HasSuffix(fields[0], ":"):
			if ours && fields[1] != "0" && (fields[0] == "Anonymous:" || fields[0] == "Swap:") {
				out, ours = out[:len(out)-1], false
			}
		case len(fields) < 6 || strings.Contains(fields[1], "w") || strings.Join(fields[5:], " ") != path:
			ours = false
		default:
			var m mapping
			_, err := fmt.Sscanf(fields[0], "%x-%x", &m.start, &m.end)
			if ours = err == nil; ours {
				out = append(out, m)
			}
		}
	}
	return out
}
