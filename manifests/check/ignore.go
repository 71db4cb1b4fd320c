package check

import (
	"fmt"
	"strings"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema"
)

// Ignore is the annotation that turns checks off for its object. Its value
// lists their codes: "W0601, W0602".
const Ignore = schema.RegistryDirectory + "ignore"

// Disabled holds the codes that are turned off for a run. The zero value
// turns nothing off.
type Disabled map[string]bool

// Disable returns the set of the given codes. It refuses one that is no
// check's: nothing else can be turned off.
func Disable(codes ...string) (Disabled, error) {
	off := Disabled{}
	for _, text := range codes {
		for _, code := range split(text) {
			if why := notACheck(code); why != "" {
				return nil, fmt.Errorf("%s", why)
			}
			off[strings.ToUpper(code)] = true
		}
	}
	return off, nil
}

// split cuts a list of codes, with commas or blanks between them.
func split(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' })
}

// notACheck says why a code cannot be turned off, or returns "".
func notACheck(code string) string {
	page, known := manifests.PageOf(strings.ToUpper(code))
	switch {
	case known && page.CanIgnore():
		return ""
	case known:
		return page.Code + " cannot be ignored: it is no check across objects"
	}
	if near := manifests.NearestCode(code); near != "" {
		return fmt.Sprintf("unknown code %q: did you mean %q?", code, near)
	}
	return fmt.Sprintf("unknown code %q", code)
}

func ignores(item *manifests.Item, code string) bool {
	list, ok := item.Object.GetAnnotations()[Ignore]
	if !ok {
		return false
	}
	for _, c := range split(list) {
		if strings.EqualFold(c, code) {
			return true
		}
	}
	return false
}

// checkIgnores finds an annotation that turns nothing off.
func (p *pass) checkIgnores(o *object) {
	for _, code := range split(o.item.Object.GetAnnotations()[Ignore]) {
		if why := notACheck(code); why != "" {
			p.report(o.item, finding{code: manifests.CodeIgnoresNothing, field: "metadata.annotations[" + Ignore + "]", message: why})
		}
	}
}
