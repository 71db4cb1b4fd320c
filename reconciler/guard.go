package reconciler

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/evenkeel/evenkeel/schema"
)

// ProtectAnnotation keeps an object in the cluster that has it as "true" from
// being deleted by a plan that nobody has approved.
const ProtectAnnotation = "evenkeel.io/protect"

// MaxDelete is how many of a source's objects a plan may delete without
// approval: Objects, or Percent of those that the source has applied,
// whichever is more. The zero value is the default of 10 objects or 30 %. It
// is a flag's value: "10", "30%", "10,30%"; "100%" lets everything pass, even
// a source that has become empty.
type MaxDelete struct {
	Objects, Percent int

	given bool
}

// String writes the limit as Set reads it.
func (m *MaxDelete) String() string {
	switch l := m.orDefault(); {
	case l.Percent == 0:
		return strconv.Itoa(l.Objects)
	case l.Objects == 0:
		return fmt.Sprintf("%d%%", l.Percent)
	default:
		return fmt.Sprintf("%d,%d%%", l.Objects, l.Percent)
	}
}

// Type names the value in a program's help.
func (*MaxDelete) Type() string { return "N,P%" }

// Set reads a limit.
func (m *MaxDelete) Set(text string) error {
	out := MaxDelete{given: true}
	for part := range strings.SplitSeq(text, ",") {
		number, isPercent := strings.CutSuffix(strings.TrimSpace(part), "%")
		n, err := strconv.Atoi(number)
		if err != nil || n < 0 || isPercent && n > 100 {
			return fmt.Errorf("%q: want a number of objects, a percentage, or both: 10,30%%", text)
		}
		if isPercent {
			out.Percent = n
		} else {
			out.Objects = n
		}
	}
	*m = out
	return nil
}

func (m *MaxDelete) orDefault() MaxDelete {
	if m.given || m.Objects != 0 || m.Percent != 0 {
		return *m
	}
	return MaxDelete{Objects: 10, Percent: 30}
}

func (m *MaxDelete) of(total int) int { return max(m.Objects, total*m.Percent/100) }

// Candidate is what the guards have to know of a source's newest revision
// beside the plan.
type Candidate struct {
	Objects   int    // that it declares
	Rewritten string // the revision in force, if this one is known not to descend from it
}

// Hold is why the changes of a source may not be applied before somebody
// approved them by their hash.
type Hold struct {
	Source  string   `json:"source"`
	Hash    string   `json:"hash"` // Plan.HashOf the source
	Reasons []string `json:"reasons"`
}

// Message is the hold in a person's words, with the way out of it.
func (h Hold) Message() string {
	return fmt.Sprintf("%s; to let exactly this pass: reconcile approve %s", strings.Join(h.Reasons, "; "), h.Hash)
}

// Guard sets the plan's Holds. Candidates are the sources that are to be
// judged; inventory is that of the plan's Input.
func (p *Plan) Guard(inventory Inventory, candidates map[string]Candidate, limit MaxDelete) {
	p.Holds = nil
	limit = limit.orDefault()
	owned := map[string]int{}
	for _, o := range inventory {
		owned[o.Source]++
	}
	for source, c := range candidates {
		if reasons := p.reasons(source, c, owned[source], limit); len(reasons) > 0 {
			p.Holds = append(p.Holds, Hold{Source: source, Hash: p.HashOf(source), Reasons: reasons})
		}
	}
	slices.SortFunc(p.Holds, func(a, b Hold) int { return strings.Compare(a.Source, b.Source) })
}

func (p *Plan) reasons(source string, c Candidate, owned int, limit MaxDelete) []string {
	var reasons []string
	deleted, protected := 0, []string{}
	for _, change := range p.Changes {
		if change.Source != source {
			continue
		}
		if change.Action == Delete {
			deleted++
		}
		if change.Protected {
			protected = append(protected, objectName(change.Key))
		}
	}
	switch {
	case deleted == 0 || limit.Percent >= 100:
	case c.Objects == 0:
		reasons = append(reasons, fmt.Sprintf("the source came back empty, which would delete %s", objects(deleted)))
	case deleted > limit.of(owned):
		reasons = append(reasons, fmt.Sprintf("it would delete %d of %s; --max-delete %s allows %d", deleted, objects(owned), limit.String(), limit.of(owned)))
	}
	if len(protected) > 0 {
		reasons = append(reasons, "it would delete what "+ProtectAnnotation+" protects: "+strings.Join(protected, ", "))
	}
	if c.Rewritten != "" {
		reasons = append(reasons, "the commit does not descend from the one in force, "+shortRevision(c.Rewritten)+": history was rewritten, or it is another branch")
	}
	return reasons
}

func objects(n int) string {
	if n == 1 {
		return "1 object"
	}
	return strconv.Itoa(n) + " objects"
}

func shortRevision(revision string) string {
	if len(revision) >= 40 {
		return revision[:7]
	}
	return revision
}

// Approve lifts the holds that have one of the hashes.
func (p *Plan) Approve(hashes ...string) {
	p.Holds = slices.DeleteFunc(p.Holds, func(h Hold) bool { return slices.Contains(hashes, h.Hash) })
}

// protects reports whether an object may not be deleted without approval.
func protects(live schema.Object) bool { return live.GetAnnotations()[ProtectAnnotation] == "true" }

const (
	hashDigits = 12
	// hashRounds makes it dear to guess a secret's value from the hash of a
	// plan that sets it.
	hashRounds = 20_000
)

// Hash identifies what the plan does: equal hashes make the same objects of
// the same content and delete the same, whatever they are made against and
// wherever the manifests lie. What somebody changed behind git's
// back is left out, as it is put right whatever the plan says.
func (p *Plan) Hash() string { return p.hash(func(Change) bool { return true }) }

// HashOf is Hash of the changes of one source.
func (p *Plan) HashOf(source string) string {
	return p.hash(func(c Change) bool { return c.Source == source })
}

func (p *Plan) hash(in func(Change) bool) string {
	h := sha256.New()
	secret := false
	for _, c := range p.Changes {
		if c.Drift || c.Action == Adopt || c.Action == Forget || !in(c) {
			continue
		}
		fmt.Fprintf(h, "%s\x00%s\x00%s\x00", c.Action, c.Key, c.hash)
		secret = secret || c.Key.Resource == schema.Secrets.Resource && c.hash != ""
	}
	sum := h.Sum(nil)
	if secret {
		// The only error is that of a key that FIPS 140 finds too short.
		if slow, err := pbkdf2.Key(sha256.New, string(sum), []byte("evenkeel plan"), hashRounds, len(sum)); err == nil {
			sum = slow
		}
	}
	return hex.EncodeToString(sum)[:hashDigits]
}
