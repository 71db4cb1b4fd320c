package main

import (
	"os"
	"runtime/debug"
)

// What a dry run may use before its memory is collected often: it ends soon
// and keeps nearly all that it makes, so most collections before that are in
// vain. With the program itself, 10,000 files of 1 KB need 230 MB at their peak.
const (
	dryRunMemory  = 140 << 20
	memoryPerFile = 16 << 10 // of those above dryRunFiles
	dryRunFiles   = 10_000
	dryRunPercent = 400
)

// spendMemory sets the collector for a process that does one dry run of so
// many files. What a person set in the environment stays.
func spendMemory(files int) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetGCPercent(dryRunPercent)
	debug.SetMemoryLimit(dryRunMemory + int64(max(0, files-dryRunFiles))*memoryPerFile)
}
