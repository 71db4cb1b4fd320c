package why

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/reconciler/status"
)

// shownNodes is how many nodes are told one by one.
const shownNodes = 5

// Render writes the answer for a person.
func (a Answer) Render(w io.Writer, now time.Time) error {
	var b strings.Builder
	line := func(label, format string, args ...any) {
		fmt.Fprintf(&b, "  %-10s %s\n", label, fmt.Sprintf(format, args...))
	}
	fmt.Fprintln(&b, a.Object)
	for _, owner := range a.Owners {
		line("made by", "%s", owner)
	}
	if a.Origin == nil {
		line("declared", "by no source: it was made through the API, or by the system")
	} else {
		a.Origin.render(line, now)
	}
	if a.Pod != nil {
		a.Pod.render(line)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (o *Origin) render(line func(label, format string, args ...any), now time.Time) {
	location := o.Location
	if location == "" {
		location = o.Source
	}
	line("declared", "%s in %s", o.Place, location)
	if o.Commit == "" {
		line("commit", "none is known")
		return
	}
	line("commit", "%s %q", o.Commit[:min(len(o.Commit), 7)], o.Subject)
	line("author", "%s, %s (%s ago)", o.Author, o.Time.Format(time.RFC3339), status.Age(o.Time, now))
}

func (p *Pod) render(line func(label, format string, args ...any)) {
	if p.Node == "" {
		line("node", "none yet")
	} else {
		line("node", "%s", p.Node)
	}
	if p.NotReady != "" {
		line("not ready", "%s", p.NotReady)
	}
	if p.Resize != "" {
		line("resize", "%s", p.Resize)
	}
	for i, c := range p.Candidates {
		label := ""
		if i == 0 {
			label = "nodes now"
		}
		if i == shownNodes {
			line(label, "and %d more", len(p.Candidates)-i)
			return
		}
		switch {
		case len(c.Refusals) > 0:
			line(label, "%s: %s", c.Node, strings.Join(c.Refusals, ", "))
		default:
			line(label, "%s: fits, score %d, other pods of its controller: %d", c.Node, c.Score, c.Same)
		}
	}
}
