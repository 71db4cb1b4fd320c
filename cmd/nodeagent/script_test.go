package main

import (
	"flag"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "write what the command prints into the scripts; read it before it is committed")

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"nodeagent": main}) }

// TestScripts runs what a person types and compares what they see.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", UpdateScripts: *update, RequireExplicitExec: true})
}
