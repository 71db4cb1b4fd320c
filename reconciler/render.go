package reconciler

import (
	"fmt"
	"io"
	"strings"

	"github.com/evenkeel/evenkeel/manifests"
)

var marks = map[Action]string{Create: "+", Update: "~", Resize: "~", Replace: "±", Delete: "-"}

// Render writes the plan for a person: what the commit does, what moved, and
// apart from it what was changed behind git's back and will be put right.
func (p *Plan) Render(w io.Writer) error {
	var b, drift strings.Builder
	for _, c := range p.Changes {
		own, drifted := c.split()
		c.render(&b, own, !c.Drift)
		c.render(&drift, drifted, c.Drift)
	}
	for _, m := range p.Moves {
		fmt.Fprintf(&b, "> moved   %s  (%s → %s)\n", objectName(m.Key), line(m.From), line(m.To))
	}
	for _, key := range p.Waiting {
		fmt.Fprintf(&b, "· wait    %s  the old one is still ending\n", objectName(key))
	}
	for _, problem := range p.Problems {
		fmt.Fprintf(&b, "! %s\n", problem.Error())
	}
	for _, part := range []struct{ title, text string }{{"", b.String()}, {"Changed behind git's back:\n", drift.String()}} {
		if part.text == "" {
			continue
		}
		if _, err := io.WriteString(w, part.title+part.text+"\n"); err != nil {
			return err
		}
	}
	if lines := p.Effects.Lines(); len(lines) > 0 {
		if _, err := io.WriteString(w, strings.Join(lines, "\n")+"\n\n"); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, p.Summary()+"\n")
	return err
}

// split tells the fields that the source changed from those that somebody else
// did.
func (c Change) split() (own, drifted []FieldChange) {
	for _, f := range c.Fields {
		if f.Drift {
			drifted = append(drifted, f)
		} else {
			own = append(own, f)
		}
	}
	return own, drifted
}

// render writes a change with some of its fields; whole is said of the part
// that the change is there for, which may have none.
func (c Change) render(b *strings.Builder, fields []FieldChange, whole bool) {
	mark, shown := marks[c.Action]
	if !shown || !whole && len(fields) == 0 {
		return
	}
	fmt.Fprintf(b, "%s %-7s %s", mark, c.Action, objectName(c.Key))
	if c.Place.File != "" {
		fmt.Fprintf(b, "  (%s)", line(c.Place))
	}
	b.WriteByte('\n')
	for _, f := range fields {
		fmt.Fprintf(b, "    %s: %s → %s", f.Path, orNone(f.Old), orNone(f.New))
		if f.Exact {
			fmt.Fprintf(b, "  (%s)", line(f.Place))
		}
		b.WriteByte('\n')
	}
}

func line(p manifests.Position) string {
	p.Column = 0
	return p.String()
}

func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}
