// Command reconcile makes machines match what git declares: the control plane,
// the plan of a commit, and everything at once on one machine.
package main

import (
	"os"

	"github.com/evenkeel/evenkeel/cmd/internal/command"
)

func main() { os.Exit(command.Main(newRoot())) }
