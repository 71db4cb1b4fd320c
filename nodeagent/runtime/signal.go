package runtime

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The real-time signals, as libc has them.
const firstRealTime, lastRealTime = 34, 64

// aliases are second names of signals.
var aliases = map[string]string{"SIGIOT": "SIGABRT", "SIGCLD": "SIGCHLD", "SIGPOLL": "SIGIO"}

// Signal reads a signal's name, as images and pods give it: "SIGQUIT", "QUIT",
// "3", "SIGRTMIN+3" or "SIGRTMAX-2"; 0 for none and for what is no signal.
func Signal(s string) int {
	if number, err := strconv.Atoi(s); err == nil {
		return number
	}
	name := "SIG" + strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if alias, ok := aliases[name]; ok {
		name = alias
	}
	if offset, ok := strings.CutPrefix(name, "SIGRTMIN"); ok {
		n, _ := strconv.Atoi(strings.TrimPrefix(offset, "+"))
		return firstRealTime + n
	}
	if offset, ok := strings.CutPrefix(name, "SIGRTMAX"); ok {
		n, _ := strconv.Atoi(strings.TrimPrefix(offset, "-"))
		return lastRealTime - n
	}
	return int(unix.SignalNum(name))
}

// SignalName is a signal's name as Kubernetes gives it; "" for what is none.
func SignalName(number int) string {
	const middle = firstRealTime + 15 // from here on names count from the end
	switch {
	case number < firstRealTime:
		return unix.SignalName(unix.Signal(number))
	case number == firstRealTime:
		return "SIGRTMIN"
	case number == lastRealTime:
		return "SIGRTMAX"
	case number <= middle:
		return fmt.Sprintf("SIGRTMIN+%d", number-firstRealTime)
	case number < lastRealTime:
		return fmt.Sprintf("SIGRTMAX-%d", lastRealTime-number)
	}
	return ""
}
