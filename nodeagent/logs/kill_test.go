package logs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// childDir, in the environment, makes the test program a keeper of logs that
// can be killed.
const childDir = "EVENKEEL_TEST_LOGS"

func floodConfig(dir string) Config {
	return Config{
		Dir: filepath.Join(dir, "spools"), LogDir: filepath.Join(dir, "pods"), MaxSize: 4 << 20, MaxFiles: 10000,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
}

func child(dir string) {
	m, err := New(floodConfig(dir))
	if err == nil {
		if err = os.WriteFile(filepath.Join(dir, "up"), nil, 0o600); err == nil {
			err = m.Run(context.Background())
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// flood writes numbered lines of up to 1 KB at 150 MB/s for a time, as a
// shim does: 32 KiB at once.
func flood(w io.Writer, d time.Duration) (lines int, err error) {
	const each, perTick = 5 * time.Millisecond, 750_000
	out := bufio.NewWriterSize(w, 32<<10)
	line := make([]byte, 0, 1024)
	ticker := time.NewTicker(each)
	defer ticker.Stop()
	for range d / each {
		<-ticker.C
		for size := 0; size < perTick; lines++ {
			line = appendLine(line[:0], lines)
			size += len(line)
			if _, err := out.Write(line); err != nil {
				return lines, err
			}
		}
	}
	return lines, out.Flush()
}

var filler = strings.Repeat("=", 1000)

func appendLine(b []byte, i int) []byte {
	b = strconv.AppendInt(b, 1e9+int64(i), 10)
	b = append(append(b, ' '), filler[:i%1001]...)
	return append(b, '\n')
}

// A container writes as fast as it can while its keeper is killed again and
// again: each line is there once, whole and in its place.
func TestKilledInAFlood(t *testing.T) {
	dir := t.TempDir()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	c := container(0)
	// The spools are made here, and left to the children.
	m, err := New(floodConfig(dir))
	if err != nil {
		t.Fatal(err)
	}
	spools, err := m.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.OpenFile(spools.Stdout, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	bad, err := os.OpenFile(spools.Stderr, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer bad.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Run(ctx); err != nil { // closes its files
		t.Fatal(err)
	}
	type written struct {
		lines int
		err   error
		took  time.Duration
	}
	done := make(chan written, 1)
	began := time.Now()
	go func() {
		lines, err := flood(out, 2*time.Second)
		out.Close()
		bad.Close()
		done <- written{lines, err, time.Since(began)}
	}()
	var w written
	kills := 0
	for running := true; running; kills++ {
		stop := startChild(t, dir)
		select {
		case w = <-done:
			running = false
		case <-time.After(time.Duration(random.IntN(200)) * time.Millisecond):
		}
		stop()
	}
	if w.err != nil {
		t.Fatal(w.err)
	}
	k := &keeper{t: t, cfg: floodConfig(dir)}
	k.start()
	defer k.stop()
	k.ended(c)
	size := checkFlood(t, k, c, w.lines)
	t.Logf("%d kills; %d lines, %d MB in %v: %.0f MB/s", kills, w.lines, size>>20, w.took, float64(size)/1e6/w.took.Seconds())
}

func startChild(t *testing.T, dir string) (kill func()) {
	t.Helper()
	up := filepath.Join(dir, "up")
	_ = os.Remove(up)
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	cmd.Stderr = testWriter{t}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	k := &keeper{t: t}
	k.await("child is up", func() bool { return exists(up) })
	return func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// checkFlood reads a log of flood's lines, and returns how many bytes they are.
func checkFlood(t *testing.T, k *keeper, c Container, lines int) (size int64) {
	t.Helper()
	r, w := io.Pipe()
	go func() { w.CloseWithError(k.Read(t.Context(), c, all(), w, w)) }()
	in := bufio.NewReader(r)
	var want []byte
	for i := 0; ; i++ {
		line, err := in.ReadSlice('\n')
		if err == io.EOF {
			if i != lines {
				t.Fatalf("%d lines, want %d", i, lines)
			}
			return size
		}
		if err != nil {
			t.Fatal(err)
		}
		size += int64(len(line))
		if want = appendLine(want[:0], i); !bytes.Equal(want, line) {
			t.Fatalf("line %d is %q", i, line)
		}
	}
}

// TestKilledAfterRotation: an agent that was killed between a rotation and its
// note leaves no entry twice.
func TestKilledAfterRotation(t *testing.T) {
	live := filepath.Join(t.TempDir(), "0.log")
	open := func(noted record) *logFile {
		l, err := openLog(live, 20, 3, noted)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	l := open(record{})
	write := func(entries ...string) {
		for _, entry := range entries {
			if _, err := l.write([]byte(entry)); err != nil {
				t.Fatal(err)
			}
		}
	}
	write("noted\n")
	noted := record{seq: 1, file: l.inode, length: l.length}
	write("not noted\n", "too much for one\n")
	if err := errors.Join(l.close(), open(noted).close()); err != nil {
		t.Fatal(err)
	}
	rotated, err := rotatedFiles(live)
	if err != nil || len(rotated) != 1 {
		t.Fatalf("rotated files: %v, %v", rotated, err)
	}
	for path, want := range map[string]string{rotated[0]: "noted\n", live: ""} {
		if got, err := os.ReadFile(path); string(got) != want || err != nil {
			t.Errorf("%s holds %q, %v, want %q", path, got, err, want)
		}
	}
}

// TestKilledAsItCompressed: a file that is there twice is read once.
func TestKilledAsItCompressed(t *testing.T) {
	k := newKeeper(t, rotating)
	c := container(0)
	s := k.open(c)
	k.writeLines(c, s, 30)
	whole := k.read(c, all())
	rotated, err := rotatedFiles(k.Path(c))
	if err != nil || len(rotated) < 2 {
		t.Fatalf("rotated files: %v, %v", rotated, err)
	}
	plain, err := os.ReadFile(rotated[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := compressOld(t.Context(), k.Path(c), time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(rotated[0], plain, 0o640); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(whole, k.read(c, all())); diff != "" {
		t.Error(diff)
	}
}
