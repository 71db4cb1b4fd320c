package control

import (
	"fmt"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/reconciler"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/validation"
)

// owners says what of a write through the API is a source's to say.
type owners struct {
	mirror  *registry.Mirror
	sources []string
}

func sourceNames(sources []manifests.Source) []string {
	var out []string
	for _, s := range sources {
		out = append(out, s.Name())
	}
	return out
}

// maxOwned is how many fields a warning names one by one.
const maxOwned = 5

// sentences is a sentence for each field that a source declares otherwise than
// updated has it, or one for an object that it declares and that is to go.
func (o owners) sentences(before, updated schema.Object) []string {
	if before == nil {
		return nil
	}
	key := schema.KeyOf(before)
	owned, ok := reconciler.Owner(o.mirror, o.sources, key)
	if !ok || owned.Entry.UID != before.GetUID() {
		return nil
	}
	if updated == nil {
		return []string{fmt.Sprintf("%s owns %s; it will be made again", owned.Where(), objectName(key))}
	}
	fields, err := reconciler.Overruled(owned, updated, validation.Rules{})
	if err != nil {
		return nil // what cannot be compared is refused by the registries
	}
	var out []string
	for i, field := range fields {
		if i == maxOwned {
			return append(out, fmt.Sprintf("%s owns %d more fields; they will be put back", owned.Where(), len(fields)-i))
		}
		out = append(out, fmt.Sprintf("%s owns %s; it will be put back", owned.Where(), field))
	}
	return out
}

func objectName(key schema.Key) string {
	kind, ok := schema.KindOfResource(key.Resource)
	if !ok {
		return key.String()
	}
	return kind.Singular + "/" + key.Name
}
