package stats

import (
	"errors"
	"strconv"
	"strings"
)

// Interface is what went through a network interface.
type Interface struct {
	Name                                 string
	RxBytes, RxErrors, TxBytes, TxErrors uint64
}

// parseInterfaces reads the text of a net/dev file, without loopback. Pure.
func parseInterfaces(text string) []Interface {
	var list []Interface
	for line := range strings.Lines(text) {
		name, rest, ok := strings.Cut(line, ":")
		f := strings.Fields(rest)
		name = strings.TrimSpace(name)
		if !ok || len(f) < 16 || name == "lo" {
			continue
		}
		n := func(i int) uint64 { v, _ := strconv.ParseUint(f[i], 10, 64); return v }
		list = append(list, Interface{Name: name, RxBytes: n(0), RxErrors: n(2), TxBytes: n(8), TxErrors: n(10)})
	}
	return list
}

// defaultInterface is the one of the default route in the text of a net/route
// file; empty if there is none. Pure.
func defaultInterface(text string) string {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) > 7 && f[1] == "00000000" && f[7] == "00000000" {
			return f[0]
		}
	}
	return ""
}

// meminfo is what /proc/meminfo says, in bytes.
type meminfo struct{ total, free, inactiveFile, anon, swapTotal, swapFree uint64 }

// parseMeminfo fails when the text says nothing of the total. Pure.
func parseMeminfo(text string) (meminfo, error) {
	values := map[string]uint64{}
	for line := range strings.Lines(text) {
		name, rest, _ := strings.Cut(line, ":")
		f := strings.Fields(rest)
		if len(f) == 0 {
			continue
		}
		n, err := strconv.ParseUint(f[0], 10, 64)
		if err == nil {
			values[name] = n << 10
		}
	}
	m := meminfo{
		total: values["MemTotal"], free: values["MemFree"], inactiveFile: values["Inactive(file)"],
		anon: values["AnonPages"], swapTotal: values["SwapTotal"], swapFree: values["SwapFree"],
	}
	if m.total == 0 {
		return m, errors.New("/proc/meminfo has no MemTotal")
	}
	return m, nil
}

// tick is the kernel's unit of CPU time in /proc, in ns: USER_HZ is 100 on all
// that we run on.
const tick = 10_000_000

// parseStat reads how long the CPUs worked, in ns, and when the machine was
// booted, in seconds since 1970, from the text of /proc/stat. Pure.
func parseStat(text string) (busy uint64, booted int64, err error) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		switch {
		case len(f) > 8 && f[0] == "cpu":
			for i, field := range f[1:9] {
				n, err := strconv.ParseUint(field, 10, 64)
				if err != nil {
					return 0, 0, err
				}
				if i != 3 && i != 4 { // idle, and waiting for disks
					busy += n * tick
				}
			}
		case len(f) == 2 && f[0] == "btime":
			if booted, err = strconv.ParseInt(f[1], 10, 64); err != nil {
				return 0, 0, err
			}
		}
	}
	if busy == 0 {
		return 0, 0, errors.New("/proc/stat has no line of the CPUs")
	}
	return busy, booted, nil
}

// parseLoad is how many processes and threads there are, from the text of
// /proc/loadavg. Pure.
func parseLoad(text string) (int64, error) {
	f := strings.Fields(text)
	if len(f) < 4 {
		return 0, errors.New("/proc/loadavg is not what it should be")
	}
	_, all, _ := strings.Cut(f[3], "/")
	return strconv.ParseInt(all, 10, 64)
}

// parseProcess reads the CPU time, in ns, and the memory, in pages, of a process
// from the text of its stat file. Pure.
func parseProcess(text string) (cpu uint64, pages uint64, err error) {
	// The name in parentheses may hold anything: what counts comes after it.
	i := strings.LastIndexByte(text, ')')
	f := strings.Fields(text[i+1:])
	if i < 0 || len(f) < 22 {
		return 0, 0, errors.New("the process's stat is not what it should be")
	}
	user, err1 := strconv.ParseUint(f[11], 10, 64)
	system, err2 := strconv.ParseUint(f[12], 10, 64)
	pages, err3 := strconv.ParseUint(f[21], 10, 64)
	return (user + system) * tick, pages, errors.Join(err1, err2, err3)
}
