package manifests

// Place is where a person edits what stands in a rendered file.
type Place struct {
	File     string
	Line     int // 0: not known, beyond that it is rendered from the file
	Column   int
	Document int
	Text     string // of the line
}

// traced is a finding about a file, at the place that a person edits.
func (f *File) traced(d Diagnostic) Diagnostic {
	if f.Trace == nil || d.Position.Line == 0 {
		return d
	}
	at := f.Trace(d.Position.Line, d.Position.Column)
	d.Position = at.in(d.Position.Source)
	if at.Line == 0 {
		d.Message += " (rendered from " + at.File + ")"
	}
	if d.Excerpt != "" { // it holds no secret
		d.Excerpt = at.Text
	}
	return d
}

// where is a position in a file, at the place that a person edits.
func (f *File) where(p Position) Position {
	if f.Trace == nil || p.Line == 0 {
		return p
	}
	return f.Trace(p.Line, p.Column).in(p.Source)
}

func (p Place) in(source string) Position {
	return Position{Source: source, File: p.File, Line: p.Line, Column: p.Column, Document: p.Document}
}
