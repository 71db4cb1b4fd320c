package containerd

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/containerd/containerd/v2/pkg/apparmor"
	"github.com/containerd/containerd/v2/pkg/cap"
)

// machine is what a container's spec depends on besides the container.
type machine struct {
	unified  bool     // cgroup version 2
	swap     bool     // swap can be limited
	caps     []string // what this process may hand on: "CAP_CHOWN", …
	oomFloor int      // the lowest OOM score adjustment that the kernel lets us set
	appArmor bool     // profiles can be loaded and are enforced
	selinux  *selinuxPolicy
}

func readMachine(c cgroups) machine {
	caps, err := cap.Current()
	if err != nil || len(caps) == 0 {
		caps = defaultCapabilities()
	}
	return machine{
		unified: c.unified, swap: canLimitSwap(c), caps: caps, oomFloor: oomFloor(),
		appArmor: apparmor.HostSupports(), selinux: readSELinux("/"),
	}
}

// canLimitSwap: with version 1 the kernel must account swap; with version 2
// the OCI runtime leaves the setting out where there is none.
func canLimitSwap(c cgroups) bool {
	if c.unified {
		return true
	}
	_, err := os.Stat(filepath.Join(c.memory, "memory.memsw.limit_in_bytes"))
	return c.memory != "" && err == nil
}

// oomFloor tries whether the kernel lets this process lower its OOM score
// adjustment, and puts it back. Without CAP_SYS_RESOURCE in the first user
// namespace nothing below the present value is accepted.
func oomFloor() int {
	const file, lowest = "/proc/self/oom_score_adj", -1000
	data, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	now, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || now == lowest {
		return now
	}
	if err := writeProc(file, now-1); err != nil {
		return now
	}
	_ = writeProc(file, now)
	return lowest
}

func writeProc(file string, value int) error {
	fd, err := syscall.Open(file, syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	_, err = syscall.Write(fd, []byte(strconv.Itoa(value)))
	return err
}

// ancestry reads a process's parent and session from /proc; zeros when it is
// gone.
func ancestry(pid int) (parent, session int) {
	fields := statOf(pid)
	if len(fields) == 0 {
		return 0, 0
	}
	parent, _ = strconv.Atoi(fields[statParent])
	session, _ = strconv.Atoi(fields[statSession])
	return parent, session
}

// Places in what statOf returns.
const (
	statState   = 0
	statParent  = 1
	statSession = 3
	statThreads = 17
	statStarted = 19
)

// statOf is what /proc says of a process after its name (proc(5)); nil when it
// is gone.
func statOf(pid int) []string {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil
	}
	// The name in parentheses may hold anything: what counts comes after the last one.
	_, after, _ := cutLast(string(data), ")")
	fields := strings.Fields(after)
	if len(fields) <= statStarted {
		return nil
	}
	return fields
}

// process is one of the machine's, and not a later one with its number.
type process struct {
	pid     int
	started string
}

func processOf(pid int) process {
	p := process{pid: pid}
	if fields := statOf(pid); fields != nil {
		p.started = fields[statStarted]
	}
	return p
}

// lives reports whether a process has not ended yet, or has not yet let go of
// what it had open: it loses its memory, and with that its command line, before
// its files. One that has ended and awaits its parent does not live.
func (p process) lives() bool {
	fields := statOf(p.pid)
	if fields == nil || fields[statStarted] != p.started {
		return false
	}
	ended := fields[statState] == "Z" || fields[statState] == "X"
	return !ended || fields[statThreads] != "1" // threads outlive the first one
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
