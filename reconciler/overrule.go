package reconciler

import (
	"fmt"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// Overruled lists the fields of an object, as somebody is about to write it,
// that its source declares otherwise and that will be put back. It is pure.
func Overruled(owned Owned, updated schema.Object, validator registry.Validator) ([]string, error) {
	merged, err := merge(owned.Entry.Declared, owned.Entry.Declared, updated, validator.Default)
	if err != nil || merged == nil {
		return nil, err
	}
	changes, err := fieldChanges(updated, merged, owned.Entry.Declared, owned.Entry.Declared)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, c := range changes {
		out = append(out, c.Path)
	}
	return out, nil
}

// Owner returns what the sources' books, as a mirror holds them, say of an
// object; false if none of the sources has it.
func Owner(m *registry.Mirror, sources []string, key schema.Key) (Owned, bool) {
	for _, source := range sources {
		kv, ok := m.RawKey(entryPath(source, key))
		if !ok {
			continue
		}
		if entry, err := parseEntry(kv); err == nil {
			return Owned{Source: source, Entry: entry}, true
		}
	}
	return Owned{}, false
}

// Where is the place of an object in its source as people write it:
// "apps/web.yaml:7 at 3f9c2e1".
func (o Owned) Where() string {
	where := fmt.Sprintf("%s:%d", o.Entry.File, o.Entry.Line)
	if o.Entry.Origin != nil {
		where += " at " + shortRevision(o.Entry.Origin.Revision)
	}
	return where
}
