package reconciler

import (
	"bytes"
	"fmt"
	"maps"
	"time"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema"
)

// Origin is the commit that last changed what a source declares of an object.
// It is zero for a source without commits.
type Origin struct {
	Revision string    `json:"revision,omitempty"`
	Author   string    `json:"author,omitempty"`
	Subject  string    `json:"subject,omitempty"`
	Time     time.Time `json:"time,omitzero"`
}

func originOf(c *manifests.Commit) *Origin {
	if c == nil {
		return nil
	}
	return &Origin{Revision: c.ID, Author: c.Author, Subject: c.Subject, Time: c.Time.UTC()}
}

// stamps are the annotations that say where an object came from. They are not
// declared by anybody, and no plan shows them.
var stamps = []string{schema.SourceAnnotation, schema.CommitAnnotation, schema.FileAnnotation}

// stamped returns the object with the stamps of an entry, and whether they are
// others than it has. It changes a copy. What a manifest itself says under
// their names stays.
func stamped(obj schema.Object, location string, e Entry) (schema.Object, bool) {
	want := map[string]string{schema.SourceAnnotation: location}
	if e.File != "" {
		want[schema.FileAnnotation] = fmt.Sprintf("%s:%d", e.File, e.Line)
	}
	if e.Origin != nil {
		want[schema.CommitAnnotation] = e.Origin.Revision
	}
	declared := declaredAnnotations(e)
	annotations := maps.Clone(obj.GetAnnotations())
	if annotations == nil {
		annotations = map[string]string{}
	}
	for _, name := range stamps {
		if _, ok := declared[name]; ok {
			continue
		}
		if value, ok := want[name]; ok {
			annotations[name] = value
		} else {
			delete(annotations, name)
		}
	}
	if maps.Equal(annotations, obj.GetAnnotations()) {
		return obj, false
	}
	out := obj.DeepCopyObject().(schema.Object)
	out.SetAnnotations(annotations)
	return out, true
}

// isStamped reports whether an object says which source it came from.
func isStamped(obj schema.Object, location string, e Entry) bool {
	if obj.GetAnnotations()[schema.SourceAnnotation] == location {
		return true
	}
	_, declared := declaredAnnotations(e)[schema.SourceAnnotation]
	return declared
}

// declaredAnnotations are the annotations in a manifest that has stamps of its
// own, such as one that was taken from the cluster; nil for any other.
func declaredAnnotations(e Entry) map[string]any {
	if !bytes.Contains(e.Declared, []byte(`"`+schema.RegistryDirectory)) {
		return nil
	}
	t, err := tree([]byte(e.Declared))
	if err != nil {
		return nil
	}
	annotations, _ := dig(t, "metadata", "annotations").(map[string]any)
	return annotations
}

// dropStamps takes the stamps out of an object's metadata, as a tree.
func dropStamps(meta map[string]any) {
	annotations, ok := meta["annotations"].(map[string]any)
	if !ok {
		return
	}
	for _, name := range stamps {
		delete(annotations, name)
	}
	if len(annotations) == 0 {
		delete(meta, "annotations")
	}
}
