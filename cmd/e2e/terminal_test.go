package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// atTerminal is `terminal FILE COMMAND…`: the command runs at a terminal of 80
// columns and 24 rows, and somebody does there what the file says:
//
//	see TEXT        wait until the text is on the screen, after what was seen
//	type TEXT       type a line
//	resize 100x30   change the terminal's columns and rows
func atTerminal(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: terminal file command [args...]")
	}
	screen, line, err := openTerminal()
	ts.Check(err)
	defer screen.file.Close()
	ts.Check(screen.resize("80x24"))
	cmd := exec.Command(args[1], args[2:]...)
	bin, _, _ := strings.Cut(ts.Getenv("PATH"), ":")
	if path := filepath.Join(bin, args[1]); exists(path) {
		cmd.Path, cmd.Err = path, nil
	}
	for _, name := range []string{"KUBECONFIG", "HOME", "PATH"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	cmd.Env = append(cmd.Env, "TERM=xterm")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = line, line, line
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	ts.Check(cmd.Start())
	line.Close()
	var reader sync.WaitGroup
	reader.Go(screen.read)
	for step := range strings.Lines(ts.ReadFile(args[0])) {
		if err := screen.do(strings.TrimSpace(step)); err != nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			ts.Fatalf("%v; the screen shows:\n%s", err, screen.text())
		}
	}
	err = cmd.Wait()
	reader.Wait()
	fmt.Fprint(ts.Stdout(), strings.ReplaceAll(screen.text(), "\r\n", "\n"))
	if (err != nil) != neg {
		ts.Fatalf("%v ended with %v; the screen shows:\n%s", args[1:], err, screen.text())
	}
}

// screen is what somebody at a terminal has before them.
type screen struct {
	file *os.File
	mu   sync.Mutex
	all  strings.Builder
	seen int
}

// openTerminal makes a terminal; line is the end for programs.
func openTerminal() (*screen, *os.File, error) {
	file, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	if err := unix.IoctlSetPointerInt(int(file.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, err
	}
	number, err := unix.IoctlGetInt(int(file.Fd()), unix.TIOCGPTN)
	if err != nil {
		return nil, nil, err
	}
	line, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	return &screen{file: file}, line, err
}

// read takes in what is printed until nobody is left who prints.
func (s *screen) read() {
	buf := make([]byte, 4096)
	for {
		n, err := s.file.Read(buf)
		s.mu.Lock()
		s.all.Write(buf[:n])
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.String()
}

func (s *screen) resize(size string) error {
	var w unix.Winsize
	if _, err := fmt.Sscanf(size, "%dx%d", &w.Col, &w.Row); err != nil {
		return err
	}
	return unix.IoctlSetWinsize(int(s.file.Fd()), unix.TIOCSWINSZ, &w)
}

func (s *screen) do(step string) error {
	what, text, _ := strings.Cut(step, " ")
	switch what {
	case "see":
		return within(patience, func() error {
			all := s.text()
			at := strings.Index(all[s.seen:], text)
			if at < 0 {
				return fmt.Errorf("%q was not seen", text)
			}
			s.seen += at + len(text)
			return nil
		})
	case "type":
		_, err := s.file.WriteString(text + "\n")
		return err
	case "resize":
		return s.resize(text)
	case "":
		return nil
	}
	return fmt.Errorf("nobody can %q at a terminal", what)
}
