package e2e

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// varying are the things in an output that differ from run to run.
var varying = map[string]string{
	"<age>":   `\d+[dhms](?:\d+[hms])?`,
	"<any>":   `.*`,
	"<ip>":    `\d+(?:\.\d+){3}`,
	"<n>":     `\d+`,
	"<id>":    `[0-9a-z]+(?:-[0-9a-z]+)*`,
	"<image>": `sha256:[0-9a-f]{64}`,
	"<time>":  `[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} \+0000`,
	"<stamp>": `\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d+)?Z`,
}

var (
	columns     = regexp.MustCompile(` {2,}`)
	placeholder = regexp.MustCompile(`<[a-z]+>`)
)

// like is `like OUTPUT FILE`: the output is what the file says, line by line.
// In the file, a name of varying stands for what varies, a variable for its
// value, "..." on a line of its own for any lines, and how many spaces are
// between two columns does not matter.
func like(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: like stdout|stderr file")
	}
	got := strings.TrimRight(trailing.ReplaceAllString(ts.ReadFile(args[0]), "\n"), "\n") + "\n"
	want := strings.TrimRight(ts.ReadFile(args[1]), "\n")
	for _, name := range []string{"NS", "NODE", "IP", "COMMIT"} {
		want = strings.ReplaceAll(want, "$"+name, ts.Getenv(name))
	}
	if !pattern(want).MatchString(got) {
		ts.Fatalf("%s is not like %s:\n%s\nbut:\n%s", args[0], args[1], want, got)
	}
}

var trailing = regexp.MustCompile(` +\n`)

// pattern is what an output must match to be like a text.
func pattern(want string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString(`\A`)
	for line := range strings.SplitSeq(want, "\n") {
		if strings.TrimSpace(line) == "..." {
			b.WriteString(`(?:.*\n)*?`)
			continue
		}
		text := regexp.QuoteMeta(strings.TrimRight(line, " "))
		text = columns.ReplaceAllString(text, ` {2,}`)
		b.WriteString(placeholder.ReplaceAllStringFunc(text, func(name string) string {
			if re := varying[name]; re != "" {
				return re
			}
			return name
		}))
		b.WriteString(`\n`)
	}
	b.WriteString(`\z`)
	return regexp.MustCompile(b.String())
}

// soon is `soon PATTERN COMMAND…`: in a while the command prints what matches.
func soon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: soon pattern command [args...]")
	}
	re, err := regexp.Compile(`(?m)` + args[0])
	ts.Check(err)
	ts.Check(within(patience, func() error {
		if err := ts.Exec(args[1], args[2:]...); err != nil {
			return err
		}
		if out := ts.ReadFile("stdout"); !re.MatchString(out) {
			return fmt.Errorf("%s does not match in:\n%s", strconv.Quote(args[0]), out)
		}
		return nil
	}))
}

// within asks until check returns nil, or returns its last error.
func within(bound time.Duration, check func() error) error {
	ticker := time.NewTicker(10 * pollEvery)
	defer ticker.Stop()
	for began := time.Now(); ; <-ticker.C {
		err := check()
		if err == nil || time.Since(began) > bound {
			return err
		}
	}
}
