package support

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/evenkeel/evenkeel/schema"
)

// TestDocument holds docs/supported.md to the tables of fields.go.
func TestDocument(t *testing.T) {
	var b strings.Builder
	b.WriteString(documentIntro)
	for _, k := range schema.Kinds {
		if text, ok := data[k.Resource]; ok {
			fmt.Fprintf(&b, "\n## %s\n\n%s", k.GVK.Kind, rows(t, text))
		}
	}
	b.WriteString("\n# Parts that several kinds share\n")
	for _, name := range slices.Sorted(maps.Keys(fragments)) {
		fmt.Fprintf(&b, "\n## %s\n\n%s", name, rows(t, fragments[name]))
	}
	const file = "../../docs/supported.md"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b.String(), string(got)); diff != "" {
		t.Errorf("%s is not current: run `make docs` (-want +got):\n%s", file, diff)
	}
}

const documentIntro = `# What is supported

The kinds that may be declared, and of each the fields that Evenkeel acts on.
Every other field that Kubernetes knows is refused by name (E0201: valid
Kubernetes, not supported here yet), never ignored; so is every other kind
(E0202). Fields that only a server sets (status, uid, resourceVersion, …) are
dropped with a warning. Where values are listed, only those are supported; some
fields are here only with the value that Kubernetes takes by default.

` + "`[]`" + ` stands for each item of a list, ` + "`*`" + ` for any key of a map. This page is made
from schema/support/fields.go by ` + "`make docs`" + `.
`

// rows is a table of the fields that text lists.
func rows(t *testing.T, text string) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("| field | supported |\n|---|---|\n")
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) > 0 {
			fmt.Fprintf(&b, "| `%s` | %s |\n", words[0], supported(t, words[1:]))
		}
	}
	return b.String()
}

// supported says in words what the annotations of a field say.
func supported(t *testing.T, words []string) string {
	t.Helper()
	if len(words) == 0 {
		return "yes"
	}
	if words[0] == "=" {
		values := make([]string, 0, len(words))
		for _, v := range words[1:] {
			if v != "-" {
				values = append(values, "`"+v+"`")
			}
		}
		return "only " + strings.Join(values, ", ")
	}
	switch fragment, shared := strings.CutPrefix(words[0], "@"); {
	case shared:
		return fmt.Sprintf("see [%s](#%s)", fragment, strings.ToLower(fragment))
	case words[0] == "**":
		return "with all below it"
	case words[0] == "!ipv6":
		return "IPv4 only"
	case words[0] == "!system":
		return "but none of `" + system + "`, which the control plane sets itself"
	}
	t.Errorf("no words for %q", words)
	return ""
}
