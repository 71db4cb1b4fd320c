package status

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/evenkeel/evenkeel/reconciler"
)

// Render writes the report for a person.
func (r Report) Render(w io.Writer, now time.Time) error {
	var b strings.Builder
	r.renderSources(&b, now)
	r.renderNodes(&b)
	r.renderObjects(&b, now)
	_, err := io.WriteString(w, b.String())
	return err
}

func (r Report) renderSources(b *strings.Builder, now time.Time) {
	if len(r.Sources) == 0 {
		b.WriteString("No source has been read yet: is `reconcile` running?\n")
	}
	for _, s := range r.Sources {
		fmt.Fprintf(b, "%s  %s\n", s.Source, s.Location)
		if s.Revision != "" {
			fmt.Fprintf(b, "  in force  %s  %d objects, %s ago", short(s.Revision), s.Objects, Age(s.Applied, now))
			if s.Subject != "" {
				fmt.Fprintf(b, "  %q by %s", s.Subject, s.Author)
			}
			b.WriteByte('\n')
		}
		if s.Result != reconciler.Applied {
			fmt.Fprintf(b, "  %-9s %s  %s\n", s.Result, short(s.Seen), s.Message)
			for _, f := range s.Findings {
				fmt.Fprintf(b, "    %s\n", f)
			}
		}
	}
}

// short cuts a hash as git does; anything else stays.
func short(revision string) string {
	if len(revision) < 40 || strings.Trim(revision, "0123456789abcdef") != "" {
		return revision
	}
	return revision[:7]
}

func (r Report) renderNodes(b *strings.Builder) {
	t := tabwriter.NewWriter(b, 0, 4, 2, ' ', 0)
	if len(r.Nodes) > 0 {
		fmt.Fprintln(t, "\nNODE\tADDRESS\tPODS\tREADY")
	}
	for _, n := range r.Nodes {
		ready := "yes"
		if !n.Ready {
			ready = "no: " + n.Reason
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\n", n.Name, n.Address, n.Pods, ready)
	}
	t.Flush()
}

func (r Report) renderObjects(b *strings.Builder, now time.Time) {
	if len(r.Objects) == 0 {
		return
	}
	t := tabwriter.NewWriter(b, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "\nKIND\tNAME\tREADY\tAGE\tWHERE")
	for _, o := range r.Objects {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s:%d\n", o.Kind, o.FullName(), o.Count(), Age(o.Created, now), o.File, o.Line)
	}
	t.Flush()
	first := true
	for _, o := range r.Objects {
		if o.Ready {
			continue
		}
		if first {
			b.WriteString("\nNot ready:\n")
			first = false
		}
		fmt.Fprintf(b, "  %s %s: %s\n", o.Kind, o.FullName(), o.Reason)
	}
}

// FullName is "namespace/name", or the name of a cluster-wide object.
func (o Object) FullName() string {
	if o.Namespace == "" {
		return o.Name
	}
	return o.Namespace + "/" + o.Name
}

// Count is the object's readiness in a word: "2/3", a service's endpoints.
func (o Object) Count() string {
	if o.Kind == "Service" {
		return fmt.Sprintf("%d endpoints", o.Have)
	}
	return fmt.Sprintf("%d/%d", o.Have, o.Want)
}
