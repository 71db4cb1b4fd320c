package node

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/nodeagent/logs"
)

// A container writes 100 MB/s while who keeps its log is killed again and
// again. It goes on and ends also with nobody there, and each line is in the
// log once.
func TestNoisyContainer(t *testing.T) {
	b := newBench(t)
	c := b.start("noisy", nil, "flood", "100", "2")
	b.stop() // what follows is kept by children
	began := time.Now()
	kills := 0
	for ; time.Since(began) < 2500*time.Millisecond; kills++ {
		kill := startKeeper(t, b)
		<-time.After(time.Duration(rand.IntN(300)) * time.Millisecond)
		kill()
	}
	if code := b.exits(c); code != 0 {
		t.Errorf("exit code %d", code)
	}
	status := b.status(c)
	b.keepLogs()
	r, w := io.Pipe()
	go func() { w.CloseWithError(b.logs.Read(t.Context(), c, logs.Options{Tail: -1, Follow: true}, w, w)) }()
	n, size := 0, 0
	in := bufio.NewReader(r)
	for ; ; n++ {
		line, err := in.ReadSlice('\n')
		if err != nil {
			t.Fatalf("after %d lines: %v", n, err)
		}
		size += len(line)
		if string(line) == fmt.Sprintf("total %d\n", n) {
			break
		}
		number := strconv.Itoa(n)
		if !bytes.HasPrefix(line, []byte(number+" ")) || len(line) != len(number)+2+n%1001 {
			t.Fatalf("line %d is %q", n, line)
		}
	}
	if rest, err := io.ReadAll(in); err != nil || len(rest) > 0 {
		t.Errorf("after the end: %q, %v", rest, err)
	}
	t.Logf("%d kills, %d lines, %d MB in %v", kills, n, size/1e6, status.FinishedAt.Sub(status.StartedAt))
	if left, _ := filepath.Glob(filepath.Join(b.dir, "spools", "*", "noisy", "*")); len(left) > 0 {
		t.Errorf("spools left: %v", left)
	}
}

func startKeeper(t *testing.T, b *bench) (kill func()) {
	t.Helper()
	up := filepath.Join(b.dir, "up")
	_ = os.Remove(up)
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childEnv+"="+b.dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b.await("up", func() bool { _, err := os.Stat(up); return err == nil })
	return func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}
