package report

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/reconciler"
	"github.com/evenkeel/evenkeel/schema"
)

// view is a report as all formats see it: with nothing in it that a terminal
// would obey, and the plan's changes as rows.
type view struct {
	report  Report
	hash    string // of the plan
	opts    Options
	rows    []row
	blocked []blocked
}

// row is one object that the plan changes.
type row struct {
	action reconciler.Action
	mark   string // "+", "~", …
	key    schema.Key
	kind   string
	title  string // "Pod shop/web"
	place  manifests.Position
	source string
	from   string // the source that had it before, if another
	drift  bool
	fields []reconciler.FieldChange
}

// blocked is an object that cannot be applied.
type blocked struct {
	key     schema.Key
	title   string
	place   manifests.Position
	message string
}

// marks are how the actions look; what has none changes only the books.
var marks = map[reconciler.Action]string{reconciler.Create: "+", reconciler.Update: "~", reconciler.Resize: "~", reconciler.Replace: "±", reconciler.Delete: "-"}

func newView(r Report, opts Options) view {
	v := view{opts: opts}
	r.Findings = append(manifests.Diagnostics(nil), r.Findings...)
	for i := range r.Findings {
		r.Findings[i] = cleaned(r.Findings[i])
	}
	if r.Plan != nil {
		v.hash = r.Plan.Hash()
		r.Plan = cleanPlan(r.Plan)
	}
	v.report = r
	if r.Plan == nil {
		return v
	}
	for _, c := range r.Plan.Changes {
		mark, shown := marks[c.Action]
		if !shown {
			continue
		}
		kind, title := name(c.Key)
		v.rows = append(v.rows, row{
			action: c.Action, mark: mark, key: c.Key, kind: kind, title: title, place: c.Place,
			source: c.Source, from: c.From, drift: c.Drift, fields: c.Fields,
		})
	}
	for _, p := range r.Plan.Problems {
		_, title := name(p.Key)
		v.blocked = append(v.blocked, blocked{p.Key, title, p.Place, p.Message})
	}
	return v
}

// cleanPlan is a plan whose values are safe to show.
func cleanPlan(p *reconciler.Plan) *reconciler.Plan {
	out := *p
	out.Changes = slices.Clone(p.Changes)
	for i := range out.Changes {
		c := &out.Changes[i]
		c.Place = cleanPlace(c.Place)
		c.Fields = slices.Clone(c.Fields)
		for j := range c.Fields {
			f := &c.Fields[j]
			f.Path, f.Old, f.New, f.Place = clean(f.Path), clean(f.Old), clean(f.New), cleanPlace(f.Place)
		}
	}
	out.Moves = slices.Clone(p.Moves)
	for i := range out.Moves {
		out.Moves[i].From, out.Moves[i].To = cleanPlace(out.Moves[i].From), cleanPlace(out.Moves[i].To)
	}
	out.Effects = cleanEffects(p.Effects)
	out.Problems = slices.Clone(p.Problems)
	for i := range out.Problems {
		out.Problems[i].Place, out.Problems[i].Message = cleanPlace(out.Problems[i].Place), clean(out.Problems[i].Message)
	}
	return &out
}

func cleanEffects(e *reconciler.Effects) *reconciler.Effects {
	if e == nil {
		return nil
	}
	out := *e
	out.Notes, out.Unfit = slices.Clone(e.Notes), slices.Clone(e.Unfit)
	for i := range out.Notes {
		out.Notes[i] = clean(out.Notes[i])
	}
	for i := range out.Unfit {
		out.Unfit[i].Object, out.Unfit[i].Reason = clean(out.Unfit[i].Object), clean(out.Unfit[i].Reason)
	}
	return &out
}

// name is an object's kind, and what people call it.
func name(key schema.Key) (kind, title string) {
	kind = key.Resource
	if k, ok := schema.KindOfResource(key.Resource); ok {
		kind = k.GVK.Kind
	}
	return kind, kind + " " + strings.TrimPrefix(key.Namespace+"/"+key.Name, "/")
}

func cleaned(d manifests.Diagnostic) manifests.Diagnostic {
	d.Position = cleanPlace(d.Position)
	d.Object, d.Message, d.Suggestion = clean(d.Object), clean(d.Message), clean(d.Suggestion)
	d.Excerpt = clean(d.Excerpt)
	return d
}

func cleanPlace(p manifests.Position) manifests.Position {
	p.File = clean(p.File)
	return p
}

// clean replaces what is no visible character, such as line ends and the
// escapes of terminals, so that one value stays in one line.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n':
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029':
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// counted is "1 error", "2 errors".
func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// verdict is the run in one line.
func (v view) verdict() string {
	errs, warnings := v.report.Findings.Count()
	errs += len(v.blocked)
	if v.report.Plan == nil {
		return counted(errs, "error") + ", " + counted(warnings, "warning") + ": no plan"
	}
	line := clean(v.report.Plan.Summary())
	if errs > 0 {
		line += " · " + counted(errs, "error")
	}
	if warnings > 0 {
		line += " · " + counted(warnings, "warning")
	}
	return line
}

// held says why the plan is held, and how to let it pass, or "".
func (v view) held() string {
	if v.report.Plan == nil {
		return ""
	}
	var out []string
	for _, h := range v.report.Plan.Holds {
		out = append(out, clean(h.Message()))
	}
	return strings.Join(out, "; ")
}
