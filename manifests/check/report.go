package check

import (
	"maps"
	"slices"

	"github.com/evenkeel/evenkeel/manifests"
)

// maxComparisons bounds what is spent on guessing what somebody meant.
const maxComparisons = 20_000

// pass is one telling of all that is wrong.
type pass struct {
	*Checker
	comparisons int // left
	found       manifests.Diagnostics
}

// finding is what a check says about a field of an item.
type finding struct {
	code       string
	field      string
	message    string
	suggestion string
}

// report looks at the suspects, in an order that depends on what is declared
// alone: guesses are made until there were enough.
func (c *Checker) report() manifests.Diagnostics {
	p := &pass{Checker: c, comparisons: maxComparisons}
	suspects := slices.SortedFunc(maps.Keys(c.suspects), (*object).compare)
	for _, o := range suspects {
		p.checkIgnores(o)
	}
	p.checkNamespaces()
	ports := portCache{}
	for _, o := range suspects {
		if o.isService {
			p.checkService(o, ports)
		}
	}
	p.checkClaims()
	for _, o := range suspects {
		if o.spec != nil {
			p.checkReferences(o)
			for _, f := range c.nodeFindings(o) {
				p.report(o.item, f)
			}
		}
	}
	return manifests.Join(p.found)
}

// report adds a finding, unless it is turned off.
func (p *pass) report(item *manifests.Item, f finding) {
	if p.isOff(item, f.code) {
		return
	}
	severity := manifests.Error
	if f.code[0] == 'W' {
		severity = manifests.Warning
	}
	at, _ := item.Position(f.field)
	p.found = append(p.found, manifests.Diagnostic{
		Severity: severity, Code: f.code, Position: at, Object: item.Title, Message: f.message, Suggestion: f.suggestion,
	})
}

func (c *Checker) isOff(item *manifests.Item, code string) bool {
	return c.off[code] || ignores(item, code)
}

// didYouMean is a suggestion, or "" where nothing is near.
func (p *pass) didYouMean(word string, candidates []string) string {
	if p.comparisons -= len(candidates); p.comparisons < 0 {
		return ""
	}
	if near := manifests.Nearest(word, candidates); near != "" && near != word {
		return "did you mean \"" + near + "\"?"
	}
	return ""
}

// place names where an item is, for a finding about another one.
func (c *Checker) place(item *manifests.Item, field string) string {
	at, _ := item.Position(field)
	if len(c.sets) > 1 {
		return at.Source + ": " + at.String()
	}
	return at.String()
}

// notThere says where something was looked for without success.
func (c *Checker) notThere() string {
	if c.known {
		return "neither declared nor in the cluster"
	}
	return "not declared here (the cluster was not looked at)"
}
