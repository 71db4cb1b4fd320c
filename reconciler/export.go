package reconciler

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/schema"
)

// The form of an export. Fields are added, none is given another meaning.
const (
	exportVersion = "evenkeel.io/v1"
	exportKind    = "State"
)

const exportNote = "Values of secrets are replaced by ids: salted, slow hashes. A plan against this file is exact, also of secrets. " +
	"Whoever has the file can test guesses of a value, slowly; a value that is easy to guess is not safe in it."

type export struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Note       string            `json:"note"`
	Secrets    *seal             `json:"secrets"`
	Heads      []Head            `json:"heads"`
	Inventory  []exportedEntry   `json:"inventory"`
	Objects    []json.RawMessage `json:"objects"`
}

type exportedEntry struct {
	Key    string `json:"key"` // as in etcd, without schema.Root
	Source string `json:"source"`
	Entry
}

// Export writes all that a plan needs, so that one can be made without the
// cluster; see ReadBase. Values of secrets are replaced by ids.
func (b *Base) Export(w io.Writer) error {
	if b.seal != nil {
		return b.export(w, b.seal)
	}
	return b.export(w, newSeal())
}

func (b *Base) export(w io.Writer, s *seal) error {
	out := export{APIVersion: exportVersion, Kind: exportKind, Note: exportNote, Secrets: s, Heads: []Head{}, Inventory: []exportedEntry{}, Objects: []json.RawMessage{}}
	for _, source := range slices.Sorted(maps.Keys(b.Heads)) {
		out.Heads = append(out.Heads, b.Heads[source])
	}
	for _, key := range slices.SortedFunc(maps.Keys(b.Inventory), schema.Key.Compare) {
		owned, err := s.owned(key, b.Inventory[key])
		if err != nil {
			return fmt.Errorf("export: %w", err)
		}
		out.Inventory = append(out.Inventory, exportedEntry{Key: key.String(), Source: owned.Source, Entry: owned.Entry})
	}
	for _, key := range slices.SortedFunc(maps.Keys(b.Objects), schema.Key.Compare) {
		data, err := s.exported(b.Objects[key])
		if err != nil {
			return fmt.Errorf("export %s: %w", key, err)
		}
		out.Objects = append(out.Objects, data)
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(out); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return nil
}

func (s *seal) exported(obj schema.Object) (json.RawMessage, error) {
	obj, err := s.object(obj)
	if err != nil {
		return nil, err
	}
	return schema.JSON(obj)
}

// ReadBase reads what Export wrote.
func ReadBase(r io.Reader) (*Base, error) {
	var in export
	if err := json.NewDecoder(r).Decode(&in); err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	if in.APIVersion != exportVersion || in.Kind != exportKind {
		return nil, fmt.Errorf("read state: it is %s %s, not %s %s as `reconcile export` writes it", in.APIVersion, in.Kind, exportVersion, exportKind)
	}
	if in.Secrets == nil || len(in.Secrets.Salt) == 0 || in.Secrets.Rounds <= 0 {
		return nil, errors.New("read state: it does not say how values of secrets were replaced")
	}
	b := EmptyBase()
	b.seal = in.Secrets
	for _, head := range in.Heads {
		b.Heads[head.Source] = head
	}
	for _, e := range in.Inventory {
		key, err := schema.ParsePath(schema.Root + e.Key)
		if err != nil {
			return nil, fmt.Errorf("read state: inventory: %w", err)
		}
		b.Inventory[key] = Owned{Source: e.Source, Entry: e.Entry}
	}
	for i, data := range in.Objects {
		obj, err := readObject(data)
		if err != nil {
			return nil, fmt.Errorf("read state: object %d: %w", i+1, err)
		}
		b.Objects[schema.KeyOf(obj)] = obj
	}
	return b, nil
}

func readObject(data []byte) (schema.Object, error) {
	var meta metav1.TypeMeta
	if err := json.Unmarshal(data, &meta); err != nil {
		return nil, err
	}
	kind, ok := schema.KindFor(meta.GroupVersionKind())
	if !ok {
		return nil, fmt.Errorf("unknown kind %s %s", meta.APIVersion, meta.Kind)
	}
	obj := kind.New()
	if err := json.Unmarshal(data, obj); err != nil {
		return nil, err
	}
	obj.GetObjectKind().SetGroupVersionKind(kind.GVK)
	return obj, nil
}
