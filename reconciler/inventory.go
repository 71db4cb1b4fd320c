package reconciler

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/validation"
)

// Entry is what the inventory says of one object that a source applied: its
// identity, where it was declared, and what was declared, which is the base of
// the next three-way merge.
type Entry struct {
	UID      types.UID       `json:"uid"`
	File     string          `json:"file"`
	Line     int             `json:"line"`
	Column   int             `json:"column,omitempty"`
	Document int             `json:"document,omitempty"`
	Hash     string          `json:"hash"`
	Declared json.RawMessage `json:"declared"`
	Origin   *Origin         `json:"origin,omitempty"` // nil if it is not known
}

func (e Entry) place(source string) manifests.Position {
	return manifests.Position{Source: source, File: e.File, Line: e.Line, Column: e.Column, Document: e.Document}
}

// Inventory is what the sources have applied: by object, the source and its
// entry.
type Inventory map[schema.Key]Owned

// Owned is an entry with the source that it belongs to.
type Owned struct {
	Source string
	Entry  Entry
}

// item rebuilds a declared object from its inventory entry.
func (o Owned) item(key schema.Key) (manifests.Item, error) {
	kind, ok := schema.KindOfResource(key.Resource)
	if !ok {
		return manifests.Item{}, fmt.Errorf("inventory %s: unknown resource", key)
	}
	obj := kind.New()
	if err := json.Unmarshal(o.Entry.Declared, obj); err != nil {
		return manifests.Item{}, fmt.Errorf("inventory %s: %w", key, err)
	}
	validation.Default(obj)
	return manifests.Item{Key: key, Object: obj, Declared: o.Entry.Declared, Hash: o.Entry.Hash, Place: o.Entry.place(o.Source)}, nil
}

// Head is what the reconciler last did with a source.
type Head struct {
	Source     string    `json:"source"`
	Location   string    `json:"location"`
	Revision   string    `json:"revision"`          // in force
	Tree       string    `json:"tree"`              // of Revision
	Subject    string    `json:"subject,omitempty"` // of the commit in force
	Author     string    `json:"author,omitempty"`
	Generation int64     `json:"generation"` // counts the revisions that were in force
	Objects    int       `json:"objects"`    // declared in Revision
	Applied    time.Time `json:"applied"`    // when Revision came in force
	Result     Result    `json:"result"`
	Seen       string    `json:"seen,omitempty"`     // the revision that Result is about, if it is not in force
	Message    string    `json:"message,omitempty"`  // why it is not
	Plan       string    `json:"plan,omitempty"`     // hash of the plan that is held
	Findings   []string  `json:"findings,omitempty"` // errors in Seen, "file:line:col: …"
}

// Result is how the newest revision of a source fared.
type Result string

// The results.
const (
	Applied     Result = "applied"
	Failed      Result = "failed"      // errors in it: nothing of it was applied
	Held        Result = "held"        // valid, but a guard does not let it pass
	Unavailable Result = "unavailable" // the source cannot be read; what is in force stays
)

func sourcePrefix(source string) string { return schema.SourcesPrefix + source + "/" }
func headPath(source string) string     { return sourcePrefix(source) + "head" }
func approvalPath(source string) string {
	return sourcePrefix(source) + "approval"
}

func entryPath(source string, key schema.Key) string {
	return sourcePrefix(source) + "objects/" + key.String()
}

// Books reads inventory and heads from keys under schema.SourcesPrefix.
func Books(kvs []registry.KV) (Inventory, map[string]Head, error) {
	inventory, heads := Inventory{}, map[string]Head{}
	for _, kv := range kvs {
		source, rest, _ := strings.Cut(strings.TrimPrefix(kv.Key, schema.SourcesPrefix), "/")
		if rest == "head" {
			var head Head
			if err := json.Unmarshal(kv.Value, &head); err != nil {
				return nil, nil, fmt.Errorf("%s: %w", kv.Key, err)
			}
			heads[source] = head
			continue
		}
		object, ok := strings.CutPrefix(rest, "objects/")
		if !ok {
			continue
		}
		key, err := schema.ParsePath(schema.Root + object)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", kv.Key, err)
		}
		entry, err := parseEntry(kv)
		if err != nil {
			return nil, nil, err
		}
		inventory[key] = Owned{Source: source, Entry: entry}
	}
	return inventory, heads, nil
}

func parseEntry(kv registry.KV) (Entry, error) {
	var entry Entry
	if err := json.Unmarshal(kv.Value, &entry); err != nil {
		return Entry{}, fmt.Errorf("%s: %w", kv.Key, err)
	}
	return entry, nil
}

func putJSON(key string, value any) (registry.Op, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return registry.Op{}, fmt.Errorf("%s: %w", key, err)
	}
	return registry.Put(key, data), nil
}
