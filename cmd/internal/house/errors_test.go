package house

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/evenkeel/evenkeel/manifests"
)

var update = flag.Bool("update", false, "rewrite docs/errors.md")

// code is how a finding's code is written in manifests/codes.go.
var code = regexp.MustCompile(`"([EW]\d{4})"`)

// entry is what docs/errors.md says of one code.
type entry struct {
	about string
	files []manifests.File // an example, or none
}

// TestErrors holds docs/errors.md to the codes that there are and to what the
// loader says of the examples.
func TestErrors(t *testing.T) {
	entries := readEntries(t)
	source, err := os.ReadFile(root + "/manifests/codes.go")
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	for _, m := range code.FindAllStringSubmatch(string(source), -1) {
		codes = append(codes, m[1])
	}
	slices.Sort(codes)
	if diff := cmp.Diff(codes, slices.Sorted(maps.Keys(entries))); diff != "" {
		t.Fatalf("codes of manifests/codes.go and of testdata/errors.txtar (-want +got):\n%s", diff)
	}
	var b strings.Builder
	b.WriteString(errorsIntro)
	for _, c := range codes {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", c, entries[c].about)
		if len(entries[c].files) > 0 {
			fmt.Fprintf(&b, "\n```\n%s```\n", findings(t, c, entries[c].files))
		}
	}
	compare(t, root+"/docs/errors.md", b.String())
}

const errorsIntro = `# Findings in manifests

What ` + "`reconcile`" + ` may say of a manifest, by code. A code never changes its
meaning. An error (E) anywhere in a commit means that nothing of the commit is
applied and that the last good one stays in force; a warning (W) stops nothing.
All findings of all files are reported at once. Try it without changing
anything: ` + "`reconcile --dry-run DIRECTORY`" + `.

This page is made by ` + "`make docs`" + `; the examples are what is really printed.
`

func readEntries(t *testing.T) map[string]entry {
	t.Helper()
	archive, err := txtar.ParseFile("testdata/errors.txtar")
	if err != nil {
		t.Fatal(err)
	}
	entries := map[string]entry{}
	for _, f := range archive.Files {
		c, name := path.Split(f.Name)
		c = strings.TrimSuffix(c, "/")
		e := entries[c]
		if name == "about" {
			e.about = strings.TrimSpace(string(f.Data))
		} else {
			sum := sha256.Sum256(f.Data)
			e.files = append(e.files, manifests.File{
				Path: name, Hash: hex.EncodeToString(sum[:]), Read: func() ([]byte, error) { return f.Data, nil },
			})
		}
		entries[c] = e
	}
	return entries
}

// findings is what a person reads about the files. The code must be among it,
// and no other.
func findings(t *testing.T, code string, files []manifests.File) string {
	t.Helper()
	snapshot := manifests.Snapshot{Source: "example", Location: "example", Revision: "1", Files: files}
	_, found := manifests.NewLoader().Load(context.Background(), snapshot)
	if len(found) == 0 {
		t.Errorf("nothing found in the example of %s", code)
	}
	var b strings.Builder
	for _, d := range found {
		if d.Code != code {
			t.Errorf("the example of %s has another finding: %s", code, d)
		}
		if err := d.Render(&b); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// compare holds a file to be what it should, or with -update makes it so.
func compare(t *testing.T, file, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("%s is not current: run `make docs` (-want +got):\n%s", file, diff)
	}
}
