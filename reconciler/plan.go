package reconciler

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema"
)

// Action is what a plan does to one object.
type Action string

// The actions. Replace deletes an object that cannot be changed in place and
// creates it again when it is gone. Resize is the update of a pod that gives it
// other CPU and memory while it runs. Adopt and Forget change the inventory
// alone: an object that is already as declared, and one that is already gone.
const (
	Create  Action = "create"
	Update  Action = "update"
	Resize  Action = "resize"
	Replace Action = "replace"
	Delete  Action = "delete"
	Adopt   Action = "adopt"
	Forget  Action = "forget"
)

// Change is one object of a plan.
type Change struct {
	Action Action
	Key    schema.Key
	Source string
	From   string             // the source that had it before, if that was another one
	Place  manifests.Position // where it is declared, or was
	UID    types.UID          // of the live object, if there is one

	// Object is what to write: for Create as declared and defaulted, for Update
	// and Resize the live object with the change, at the live object's version.
	Object schema.Object

	// Fields are what an update changes, sorted by path.
	Fields []FieldChange

	// Drift is set when git did not change: somebody else changed the object.
	Drift bool

	// Release is set when an update takes back what the source had set of an
	// object that stays without it: see Kept.
	Release bool

	// Protected is set when the change ends an object that may not be deleted
	// without approval.
	Protected bool

	// Entry is what the inventory says after the change; for Delete and Forget,
	// and for a Release, it is removed.
	Entry Entry

	item     *manifests.Item
	hash     string // of what is declared
	location string // of the source, for the object's annotations; "" for none
}

// Problem is why an object cannot be applied.
type Problem struct {
	Key     schema.Key
	Place   manifests.Position
	Message string
}

func (p Problem) Error() string {
	if p.Place.File == "" {
		return fmt.Sprintf("%s: %s", p.Key, p.Message)
	}
	return fmt.Sprintf("%s: %s: %s", p.Place, p.Key, p.Message)
}

// Move is an object that is declared in another file than before, and is
// otherwise unchanged.
type Move struct {
	Key      schema.Key
	Source   string
	From, To manifests.Position
}

// Plan is all that stands between what is and what is declared. Changes are in
// the order in which they are applied.
type Plan struct {
	Changes   []Change
	Unchanged int
	Moved     int          // of the unchanged: declared in another file than before
	Moves     []Move       // those, by key
	Waiting   []schema.Key // declared, but the object of that name is still ending
	Problems  []Problem
	Effects   *Effects // on what runs, if somebody worked them out
	Holds     []Hold   // see Guard; while there is one, its source's changes are not applied
}

// Empty reports whether applying the plan would write nothing.
func (p *Plan) Empty() bool { return len(p.Changes) == 0 }

// Pending reports whether the plan changes any object: not just the books.
func (p *Plan) Pending() bool {
	for _, c := range p.Changes {
		if c.Action != Adopt && c.Action != Forget {
			return true
		}
	}
	return len(p.Waiting) > 0
}

// Count returns how many changes of an action there are.
func (p *Plan) Count(actions ...Action) int {
	n := 0
	for _, c := range p.Changes {
		for _, a := range actions {
			if c.Action == a {
				n++
			}
		}
	}
	return n
}

// Summary is the plan in one line.
func (p *Plan) Summary() string {
	parts := []string{
		fmt.Sprintf("%d to add", p.Count(Create)),
		fmt.Sprintf("%d to change", p.Count(Update, Resize, Replace)),
		fmt.Sprintf("%d to delete", p.Count(Delete)),
	}
	if p.Moved > 0 {
		parts = append(parts, fmt.Sprintf("%d moved", p.Moved))
	}
	parts = append(parts, fmt.Sprintf("%d unchanged", p.Unchanged))
	summary := "Plan: " + strings.Join(parts, ", ")
	if pods := p.Effects.String(); pods != "" {
		summary += " · pods: " + pods
	}
	return summary
}

// objectName is an object as people say it: "ReplicationController shop/web".
func objectName(key schema.Key) string {
	name := key.Name
	if key.Namespace != "" {
		name = key.Namespace + "/" + key.Name
	}
	if kind, ok := schema.KindOfResource(key.Resource); ok {
		return kind.GVK.Kind + " " + name
	}
	return key.Resource + " " + name
}
