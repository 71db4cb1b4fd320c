package logs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// process is the first process of a container whose shim does not read what it
// writes: all that it is told, on both outputs.
type process struct {
	*exec.Cmd
	in io.WriteCloser
}

func startProcess(t *testing.T) process {
	t.Helper()
	p := process{Cmd: exec.CommandContext(t.Context(), "tee", "/dev/stderr")}
	var err error
	if p.in, err = p.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	outs := [2]**os.File{}
	for i, w := range []*io.Writer{&p.Stdout, &p.Stderr} {
		r, out, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() }) // the shim's end
		*w, outs[i] = out, &out
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	for _, out := range outs {
		_ = (*out).Close()
	}
	t.Cleanup(func() { _ = p.in.Close(); _ = p.Wait() })
	return p
}

func (p process) say(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(p.in, text); err != nil {
		t.Fatal(err)
	}
}

// TestKeep: where the shim has given up, the Manager takes what the container
// writes, and so does its successor.
func TestKeep(t *testing.T) {
	k := newKeeper(t)
	p := startProcess(t)
	c := container(0)
	c.ID = "/" // the test's own cgroup has no better name
	s := k.open(c)
	s.write(0, "by the shim\n")
	if err := k.Keep(c, 0); err != nil {
		t.Errorf("nothing is to be done, but %v", err)
	}
	_ = s.out[0].Close() // the disk was full
	k.await("told", func() bool { return <-k.Left() == "u1" && k.find(c).isLeft() })
	if err := k.Keep(c, 0); !errors.Is(err, ErrNoProcess) {
		t.Errorf("without a process: %v", err)
	}
	out := Options{Tail: -1, Stream: Stdout}
	keep := func(text string) {
		t.Helper()
		p.say(t, text)
		k.await("heard", func() bool {
			if err := k.Keep(c, p.Process.Pid); err != nil { // again, as the agent does whenever it is told
				t.Fatal(err)
			}
			return strings.HasSuffix(k.read(c, out), text)
		})
	}
	keep("one\n")
	s.write(1, "by the shim\n") // which had room for it
	_ = s.out[1].Close()
	keep("two\n")
	k.restart()
	keep("three\n")
	if err := errors.Join(p.in.Close(), p.Wait()); err != nil {
		t.Fatal(err)
	}
	k.ended(c)
	if err := k.Keep(c, p.Process.Pid); err != nil || k.find(c) != nil {
		t.Errorf("of a process that has ended: %v", err)
	}
	lines := func(o Options) (out []string) {
		for line := range strings.Lines(k.read(c, o)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "[some output is missing here") {
				out = append(out, line)
			}
		}
		return out
	}
	if diff := cmp.Diff([]string{"by the shim", "one", "two", "three"}, lines(Options{Tail: -1, Stream: Stdout})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"by the shim", "one", "two", "three"}, lines(Options{Tail: -1, Stream: Stderr})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestKeepAStranger: the number of a container's process may be another's by now.
func TestKeepAStranger(t *testing.T) {
	k := newKeeper(t)
	p := startProcess(t)
	c := container(0)
	k.open(c).close()
	k.ended(c)
	if err := k.Keep(c, p.Process.Pid); err != nil {
		t.Fatal(err)
	}
	k.ended(c)
	if got := k.read(c, all()); got != "" {
		t.Errorf("heard %q", got)
	}
}

// TestKeepNoPipeOfItsOwn: a container that has put a pipe of its own in the
// place of its output, to a process that reads it, is not robbed of it.
func TestKeepNoPipeOfItsOwn(t *testing.T) {
	k := newKeeper(t)
	first := exec.CommandContext(t.Context(), "cat")
	in, err := first.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var heard strings.Builder
	reader := exec.CommandContext(t.Context(), "cat")
	first.Stdout, first.Stderr, reader.Stdin, reader.Stdout = w, w, r, &heard
	if err := errors.Join(first.Start(), reader.Start(), r.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	c := container(0)
	c.ID = "/" // the test's own cgroup has no better name
	k.open(c).close()
	k.ended(c)
	if err := k.Keep(c, first.Process.Pid); err != nil {
		t.Error(err)
	}
	if k.find(c) != nil {
		t.Error("the container's own pipe is read")
	}
	_, err = io.WriteString(in, "to the reader\n")
	if err := errors.Join(err, in.Close(), first.Wait(), reader.Wait()); err != nil {
		t.Fatal(err)
	}
	k.ended(c)
	if got := heard.String(); got != "to the reader\n" {
		t.Errorf("the reader heard %q", got)
	}
}

// full is a disk that has room for some bytes.
type full struct {
	strings.Builder
	room int
}

func (f *full) Write(p []byte) (int, error) {
	n := min(f.room, len(p))
	f.room -= n
	f.Builder.Write(p[:n])
	if n < len(p) {
		return n, errors.New("no space left on device")
	}
	return n, nil
}

// TestPumpLeavesOut: what there is no room for is counted and left out.
func TestPumpLeavesOut(t *testing.T) {
	disk := &full{room: 5}
	p := &pump{to: disk}
	p.put([]byte("one\ntwo\n"))
	disk.room = 7 // not enough to say so
	p.put([]byte("three\n"))
	disk.room = 1 << 10
	p.put([]byte("four\n"))
	p.put([]byte("five\n"))
	got := disk.String()
	if want := fmt.Sprintf("\n[%d bytes of output are missing here: they could not be written]\nfour\nfive\n", 3+6); !strings.HasPrefix(got, "one\nt") || !strings.HasSuffix(got, want) {
		t.Errorf("got %q", got)
	}
}
