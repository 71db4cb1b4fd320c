package check

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/evenkeel/evenkeel/manifests"
)

// expectation is what the comments at the head of a file say of it:
//
//	# expect: E0104 7:3 suggestion "replicas"
//	# typo: replicas
//	# cluster: known, 2 nodes
type expectation struct {
	findings []wanted
	typo     string // what somebody meant
	cluster  Cluster
}

type wanted struct{ code, at, suggestion string }

var expectLine = regexp.MustCompile(`^# expect: (\S+) (\d+:\d+)(?: suggestion (".*"))?$`)

func readExpectation(t *testing.T, text string) expectation {
	t.Helper()
	var e expectation
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		line = strings.TrimSpace(line)
		if m := expectLine.FindStringSubmatch(line); m != nil {
			w := wanted{code: m[1], at: m[2]}
			if m[3] != "" {
				var err error
				if w.suggestion, err = strconv.Unquote(m[3]); err != nil {
					t.Fatalf("%s: %v", line, err)
				}
			}
			e.findings = append(e.findings, w)
		} else if typo, ok := strings.CutPrefix(line, "# typo: "); ok {
			e.typo = typo
		} else if cluster, ok := strings.CutPrefix(line, "# cluster: "); ok {
			e.cluster = readCluster(t, cluster)
		} else {
			break
		}
	}
	return e
}

func readCluster(t *testing.T, text string) Cluster {
	t.Helper()
	var in Cluster
	for part := range strings.SplitSeq(text, ", ") {
		n := 0
		if part == "known" {
			in.Known = true
		} else if _, err := fmt.Sscanf(part, "%d nodes", &n); err != nil {
			t.Fatalf("cluster %q", part)
		}
		for i := range n {
			in.Nodes = append(in.Nodes, node(fmt.Sprint("node-", i)))
		}
	}
	return in
}

// corpus gives each file of a directory, with all that is found in it.
func corpus(t *testing.T, dir string, see func(t *testing.T, e expectation, text string, found manifests.Diagnostics)) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "testdata", dir, "*.*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			e := readExpectation(t, string(content))
			snap := snapshot("corpus", filepath.Base(file), string(content))
			sets, found := manifests.NewLoader().Load(t.Context(), snap)
			if !found.HasErrors() {
				found = manifests.Join(found, Check(sets, e.cluster, nil))
			}
			manifests.Quote(found, snap)
			see(t, e, string(content), found)
		})
	}
	return len(files)
}

// TestInvalid reads testdata/invalid: real mistakes, one in each file, of
// which place, code and suggestion must be as the file says.
func TestInvalid(t *testing.T) {
	typos, right := 0, 0
	n := corpus(t, "invalid", func(t *testing.T, e expectation, text string, found manifests.Diagnostics) {
		if len(e.findings) == 0 {
			t.Fatal("nothing is expected of the file")
		}
		suggested := false
		for i, d := range found {
			suggested = suggested || strings.Contains(d.Suggestion, strconv.Quote(e.typo))
			if i >= len(e.findings) {
				t.Errorf("beside what is expected: %s", d)
				continue
			}
			want, at := e.findings[i], fmt.Sprintf("%d:%d", d.Position.Line, d.Position.Column)
			if d.Code != want.code || at != want.at || !strings.Contains(d.Suggestion, want.suggestion) {
				t.Errorf("got %s, want %s %s suggestion %q", d, want.at, want.code, want.suggestion)
			}
			if d.Position.Document > 0 && (d.Excerpt == "") != secretAt(text, d.Position.Line) {
				t.Errorf("excerpt %q", d.Excerpt)
			}
		}
		if len(found) < len(e.findings) {
			t.Errorf("%d findings, want %d: %v", len(found), len(e.findings), found)
		}
		if e.typo != "" {
			typos++
			if suggested {
				right++
			} else {
				t.Logf("meant %q: %v", e.typo, found)
			}
		}
	})
	t.Logf("%d files; %d of %d typos with the right suggestion", n, right, typos)
	if n < 150 {
		t.Errorf("only %d files", n)
	}
	if typos < 50 || right*100 < typos*80 {
		t.Errorf("%d of %d typos have the right suggestion; want 80 %% of at least 50", right, typos)
	}
}

// secretAt reports whether a line is in a document that may hold secrets.
func secretAt(text string, line int) bool {
	for doc := range strings.SplitSeq(text, "\n---") {
		n := strings.Count(doc, "\n") + 1
		if line <= n {
			return strings.Contains(doc, "kind: Secret")
		}
		line -= n
	}
	return false
}

// TestValid reads testdata/valid: what people have in their repositories, of
// which there is nothing to say.
func TestValid(t *testing.T) {
	n := corpus(t, "valid", func(t *testing.T, e expectation, _ string, found manifests.Diagnostics) {
		for _, d := range found {
			t.Error(d)
		}
	})
	if n < 25 {
		t.Errorf("only %d files", n)
	}
}
