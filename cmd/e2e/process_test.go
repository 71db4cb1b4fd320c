package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vishvananda/netns"

	"github.com/evenkeel/evenkeel/proxy/thread"
)

var processes atomic.Int32

// process is a program that a test started.
type process struct {
	w    *world
	name string
	log  string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended; then err is set
	err  error
}

// start runs a program in a namespace until the test ends it. If the test has
// failed, the end of its output is shown.
func (w *world) start(ns netns.NsHandle, program string, args ...string) *process {
	w.t.Helper()
	p := &process{w: w, name: filepath.Base(program), done: make(chan struct{})}
	p.log = filepath.Join(w.dir, fmt.Sprintf("%s-%d.log", p.name, processes.Add(1)))
	out, err := os.Create(p.log)
	if err != nil {
		w.t.Fatal(err)
	}
	defer out.Close()
	if path := filepath.Join(built.bin, program); exists(path) {
		program = path
	}
	p.cmd = exec.Command(program, args...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := thread.In(ns, p.cmd.Start); err != nil {
		w.t.Fatalf("start %s: %v", program, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	w.t.Cleanup(p.end)
	return p
}

// end stops the process if it runs, at the end of the test.
func (p *process) end() {
	if !p.ended() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		if !p.wait(patience) {
			p.w.t.Errorf("%s did not end on SIGTERM", p.name)
			p.kill()
		}
	}
	if p.w.t.Failed() {
		p.w.t.Logf("the end of %s:\n%s", p.name, p.tail(8<<10))
	}
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *process) wait(bound time.Duration) bool {
	select {
	case <-p.done:
		return true
	case <-time.After(bound):
		return false
	}
}

// kill is kill -9.
func (p *process) kill() {
	p.w.t.Helper()
	_ = p.cmd.Process.Kill()
	if !p.wait(patience) {
		p.w.t.Fatalf("%s was killed and did not end", p.name)
	}
}

// interrupt is Ctrl-C; the program must end well.
func (p *process) interrupt() {
	p.w.t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGINT)
	if !p.wait(patience) {
		p.w.t.Fatalf("%s did not end on SIGINT", p.name)
	}
	if p.err != nil {
		p.w.t.Errorf("%s ended on SIGINT with %v", p.name, p.err)
	}
}

func (p *process) output() string {
	text, _ := os.ReadFile(p.log)
	return string(text)
}

func (p *process) tail(bytes int) string {
	text := p.output()
	return strings.TrimSpace(text[max(0, len(text)-bytes):])
}
