package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/evenkeel/evenkeel/cmd/internal/command"
	"github.com/evenkeel/evenkeel/manifests"
)

func runExplain(args ...string) (string, error) {
	var out bytes.Buffer
	cmd := newExplain()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(append([]string{}, args...)) // nil would be this program's own
	cmd.SetOut(&out)
	err := cmd.Execute()
	return out.String(), err
}

func TestExplain(t *testing.T) {
	out, err := runExplain("e0104", "W0601")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"error[E0104]: unknown field\n", "\n      replica: 5\n", "\n      replicas: 5\n", "cannot be turned off", "warning[W0601]: ", "evenkeel.io/ignore: W0601"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
}

func TestExplainListsAll(t *testing.T) {
	out, err := runExplain()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Count(out, "\n"), len(manifests.Pages()); got != want {
		t.Errorf("%d lines for %d codes:\n%s", got, want, out)
	}
}

func TestExplainUnknownCode(t *testing.T) {
	for code, want := range map[string]string{
		"E0601": `unknown code "E0601": did you mean "W0601"?`,
		"hello": `unknown code "hello"; all are listed by: reconcile explain`,
	} {
		out, err := runExplain("E0104", code)
		var exit *command.ExitError
		if !errors.As(err, &exit) || exit.Code != 1 || err.Error() != want || out != "" {
			t.Errorf("%s: %v, printed %q; want %s", code, err, out, want)
		}
	}
}
