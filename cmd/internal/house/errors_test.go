package house

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/manifests/check"
)

var update = flag.Bool("update", false, "rewrite docs/errors.md")

// code is how a finding's code is written in manifests/codes.go.
var code = regexp.MustCompile(`"([EW]\d{4})"`)

// TestErrors holds the pages of codes to the codes that there are, their
// examples to what is said of them, and docs/errors.md to the pages.
func TestErrors(t *testing.T) {
	source, err := os.ReadFile(root + "/manifests/codes.go")
	if err != nil {
		t.Fatal(err)
	}
	var codes, explained []string
	for _, m := range code.FindAllStringSubmatch(string(source), -1) {
		codes = append(codes, m[1])
	}
	var b strings.Builder
	b.WriteString(errorsIntro)
	for _, p := range manifests.Pages() {
		explained = append(explained, p.Code)
		fmt.Fprintf(&b, "\n## %s: %s\n\n%s\n", p.Code, p.Title, p.About)
		if len(p.Wrong) > 0 {
			fmt.Fprintf(&b, "\nWrong:\n%s\n```\n%s```\n", quoteFiles(p.Wrong), findings(t, p, p.Wrong, true))
		}
		if len(p.Right) > 0 {
			findings(t, p, p.Right, false)
			fmt.Fprintf(&b, "\nRight:\n%s", quoteFiles(p.Right))
		}
		fmt.Fprintf(&b, "\n%s\n", p.TurnOff())
	}
	slices.Sort(codes)
	slices.Sort(explained)
	if diff := cmp.Diff(codes, explained); diff != "" {
		t.Fatalf("codes of manifests/codes.go and of manifests/pages.txtar (-want +got):\n%s", diff)
	}
	compare(t, root+"/docs/errors.md", b.String())
}

const errorsIntro = `# Findings in manifests

What ` + "`reconcile`" + ` may say of a manifest, by code; ` + "`reconcile explain CODE`" + ` shows
the same. A code never changes its meaning. An error (E) anywhere in a commit
means that nothing of the commit is applied and that the last good one stays in
force; a warning (W) stops nothing. All findings of all files are reported at
once. Try it without changing anything: ` + "`reconcile --dry-run DIRECTORY`" + `.

Findings from 0601 on are of checks across objects: each object is valid, and
together they cannot work. They alone can be turned off.

This page is made from manifests/pages.txtar by ` + "`make docs`" + `; what is shown below
the wrong examples is what is really printed.
`

func quoteFiles(files []manifests.Example) string {
	var b strings.Builder
	for _, f := range files {
		fmt.Fprintf(&b, "\n```yaml\n# %s\n%s```\n", f.Name, f.Text)
	}
	return b.String()
}

// known is the cluster that the examples are for: one node, and where a code
// is about what a cluster has not, nothing else.
func known(code string) check.Cluster {
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "node-1"},
		Status:     corev1.NodeStatus{Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi")}},
	}
	return check.Cluster{Nodes: []*corev1.Node{node}, Known: code == manifests.CodeNoNamespace}
}

// findings is what a person reads about the files. Of wrong ones the page's
// code must be among it, and no other; of right ones there must be none.
func findings(t *testing.T, p manifests.Page, files []manifests.Example, wrong bool) string {
	t.Helper()
	snapshot := manifests.Snapshot{Source: "example", Location: "example", Revision: "1"}
	for _, f := range files {
		sum := sha256.Sum256([]byte(f.Text))
		snapshot.Files = append(snapshot.Files, manifests.File{
			Path: f.Name, Hash: hex.EncodeToString(sum[:]), Read: func() ([]byte, error) { return []byte(f.Text), nil },
		})
	}
	sets, found := manifests.NewLoader().Load(context.Background(), snapshot)
	if !found.HasErrors() {
		found = manifests.Join(found, check.Check(sets, known(p.Code), nil))
		manifests.Quote(found, snapshot)
	}
	if wrong && len(found) == 0 {
		t.Errorf("nothing found in the wrong example of %s", p.Code)
	}
	for _, d := range found {
		if d.Code != p.Code || !wrong || d.Severity != p.Severity() {
			t.Errorf("an example of %s has another finding: %s", p.Code, d)
		}
	}
	var b strings.Builder
	if err := found.Render(&b); err != nil {
		t.Fatal(err)
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
