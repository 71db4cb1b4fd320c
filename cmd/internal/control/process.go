package control

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// A leader signs with what tells its process apart from all others, so that
// one that starts on the same machine sees that its predecessor is dead and
// need not wait for its lease to run out.

// processID is "<machine>/<pid>/<start time>".
func processID() string {
	return fmt.Sprintf("%s/%d/%s", machineID(), os.Getpid(), startTime(os.Getpid()))
}

// isDead reports whether the process of an id ran on this machine and does no
// more.
func isDead(id string) bool {
	parts := strings.Split(id, "/")
	if len(parts) != 3 || machineID() == "" || parts[0] != machineID() {
		return false
	}
	pid, err := strconv.Atoi(parts[1])
	return err == nil && startTime(pid) != parts[2]
}

// machineID is this boot of this machine and the namespace that its process
// numbers are of, or "".
func machineID() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	namespace, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(boot)) + "-" + namespace
}

// startTime is when a process started, in clock ticks since boot, or "" if
// there is none (proc(5), /proc/pid/stat).
func startTime(pid int) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	fields := strings.Fields(rest)
	const starttime = 22 - 3 // fields after "pid (comm) "
	if len(fields) <= starttime || fields[0] == "Z" {
		return ""
	}
	return fields[starttime]
}
