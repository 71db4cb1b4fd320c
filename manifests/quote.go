package manifests

import (
	"bytes"
	"slices"
)

// Quote shows the source line with each finding that knows its place and has
// no excerpt, such as those of checks across objects. It reads the files that
// it needs from the snapshots; what cannot be read, and a document that may
// hold secrets, is not shown.
func Quote(found Diagnostics, snaps ...Snapshot) {
	read := map[string]*quotedFile{}
	for i := range found {
		d := &found[i]
		if d.Excerpt != "" || d.Position.Line == 0 {
			continue
		}
		key := d.Position.Source + "\x00" + d.Position.File
		q, ok := read[key]
		if !ok {
			q = readQuoted(d.Position, snaps)
			read[key] = q
		}
		q.quote(d)
	}
}

// quotedFile is a file whose lines are shown.
type quotedFile struct {
	docs []document
}

func readQuoted(at Position, snaps []Snapshot) *quotedFile {
	q := &quotedFile{}
	for _, s := range snaps {
		if s.Source != at.Source {
			continue
		}
		for _, f := range slices.Concat(s.Files, s.Assets) {
			if f.Path != at.File {
				continue
			}
			if data, err := f.Read(); err == nil && checkText(data) == nil {
				q.docs = split(data)
			}
		}
	}
	return q
}

func (q *quotedFile) quote(d *Diagnostic) {
	for i := range q.docs {
		doc := &q.docs[i]
		if doc.number != d.Position.Document || mayHoldSecrets(doc.text) || IsKustomization(d.Position.File) && bytes.Contains(doc.text, []byte("secretGenerator")) {
			continue
		}
		d.Excerpt = doc.lineText(d.Position.Line)
		if d.Width == 0 {
			d.Width = wordWidth(d.Excerpt, d.Position.Column)
		}
	}
}
