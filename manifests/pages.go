package manifests

import (
	_ "embed"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"
)

// Page explains one code.
type Page struct {
	Code  string
	Title string // a few words
	About string // what it means, and why it is said
	Wrong []Example
	Right []Example
}

// Example is a file of an example.
type Example struct{ Name, Text string }

// CanIgnore reports whether a person can turn the code off.
func (p Page) CanIgnore() bool { return IsCheck(p.Code) }

// Severity is that of all findings of the code.
func (p Page) Severity() Severity {
	if p.Code[0] == 'W' {
		return Warning
	}
	return Error
}

// pagesText holds all pages. A line "-- E0104/about --" begins a part: about,
// which begins with the title, or wrong/<file> and right/<file>.
//
//go:embed pages.txtar
var pagesText string

var pages = sync.OnceValue(func() []Page { return parsePages(pagesText) })

// Pages returns a page for every code, sorted by number and then by letter.
func Pages() []Page { return slices.Clone(pages()) }

// PageOf returns the page of a code, or false.
func PageOf(code string) (Page, bool) {
	i := slices.IndexFunc(pages(), func(p Page) bool { return p.Code == code })
	if i < 0 {
		return Page{}, false
	}
	return pages()[i], true
}

// NearestCode returns the code that somebody who wrote word most likely
// meant, or "".
func NearestCode(word string) string {
	word = strings.ToUpper(strings.TrimSpace(word))
	var codes []string
	for _, p := range pages() {
		if p.Code[1:] == strings.TrimLeft(word, "EW") {
			return p.Code // the other letter
		}
		codes = append(codes, p.Code)
	}
	return nearest(word, codes)
}

func parsePages(text string) []Page {
	var all []Page
	_, text, _ = strings.Cut("\n"+text, "\n-- ")
	for text != "" {
		name, rest, _ := strings.Cut(text, " --\n")
		body, next, _ := strings.Cut(rest, "\n-- ")
		text = next
		code, part, _ := strings.Cut(name, "/")
		if len(all) == 0 || all[len(all)-1].Code != code {
			all = append(all, Page{Code: code})
		}
		all[len(all)-1].add(part, strings.TrimRight(body, "\n")+"\n")
	}
	slices.SortStableFunc(all, func(a, b Page) int { return strings.Compare(a.Code[1:]+a.Code, b.Code[1:]+b.Code) })
	return all
}

func (p *Page) add(part, body string) {
	switch dir, file := path.Split(part); dir {
	case "wrong/":
		p.Wrong = append(p.Wrong, Example{file, body})
	case "right/":
		p.Right = append(p.Right, Example{file, body})
	default:
		p.Title, p.About, _ = strings.Cut(strings.TrimSpace(body), "\n\n")
	}
}

// TurnOff says how the code is turned off, or that it cannot be.
func (p Page) TurnOff() string {
	if !p.CanIgnore() {
		if p.Severity() == Warning {
			return "It cannot be turned off, and stops nothing."
		}
		return "It cannot be turned off."
	}
	return fmt.Sprintf("Turn it off for one object with the annotation `evenkeel.io/ignore: %s`, for a run with `--ignore %s`.", p.Code, p.Code)
}

// Render writes the page for a terminal.
func (p Page) Render(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s[%s]: %s\n\n%s\n", p.Severity(), p.Code, p.Title, p.About)
	for _, part := range []struct {
		name     string
		examples []Example
	}{{"Wrong", p.Wrong}, {"Right", p.Right}} {
		for _, e := range part.examples {
			fmt.Fprintf(&b, "\n%s, in %s:\n\n%s", part.name, e.Name, indent(e.Text))
		}
	}
	fmt.Fprintf(&b, "\n%s\n", strings.ReplaceAll(p.TurnOff(), "`", ""))
	_, err := io.WriteString(w, b.String())
	return err
}

func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) != "" {
			line = "    " + line
		}
		b.WriteString(line)
	}
	return b.String()
}
