package reconciler

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema"
)

// lastApplied is where kubectl keeps a copy of what it applied, values of
// secrets and all.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// hideSecrets replaces the values of secrets by numbers in the order of the
// plan: they say which values are equal, and nothing else.
func (p *Plan) hideSecrets() {
	numbers := map[string]int{}
	for _, c := range p.Changes {
		if c.Key.Resource != schema.Secrets.Resource {
			continue
		}
		for i := range c.Fields {
			f := &c.Fields[i]
			if !within(f.Path, "data") && f.Path != join("metadata.annotations", lastApplied) {
				continue
			}
			for _, value := range []*string{&f.Old, &f.New} {
				if *value == "" {
					continue
				}
				if numbers[*value] == 0 {
					numbers[*value] = len(numbers) + 1
				}
				*value = fmt.Sprintf("(secret %d)", numbers[*value])
			}
		}
	}
}

// seal replaces the values of secrets by ids that say which are equal. It is
// slow on purpose: an id, which is in a file that people share, is a salted
// hash, and a weak value can be guessed from it.
type seal struct {
	Salt   []byte `json:"salt"`
	Rounds int    `json:"rounds"`

	ids map[string][]byte
}

const sealRounds = 10_000

func newSeal() *seal {
	s := &seal{Salt: make([]byte, 16), Rounds: sealRounds}
	rand.Read(s.Salt) // never fails
	return s
}

// value is the id of a value: a JSON object, as some types of secrets must be.
func (s *seal) value(value []byte) ([]byte, error) {
	if id, ok := s.ids[string(value)]; ok {
		return id, nil
	}
	sum, err := pbkdf2.Key(sha256.New, string(value), s.Salt, s.Rounds, 16)
	if err != nil {
		return nil, fmt.Errorf("hide a secret's value: %w", err)
	}
	id := []byte(`{"id":"` + hex.EncodeToString(sum) + `"}`)
	if s.ids == nil {
		s.ids = map[string][]byte{}
	}
	s.ids[string(value)] = id
	return id, nil
}

// object is a secret with ids for values; any other object is returned as it
// is. It changes a copy.
func (s *seal) object(obj schema.Object) (schema.Object, error) {
	secret, ok := obj.(*corev1.Secret)
	if s == nil || !ok {
		return obj, nil
	}
	out := secret.DeepCopy()
	delete(out.Annotations, lastApplied)
	out.ManagedFields = nil
	for name, value := range out.Data {
		id, err := s.value(value)
		if err != nil {
			return nil, err
		}
		out.Data[name] = id
	}
	return out, nil
}

// declared is a secret's declared form with ids for values, and its hash.
func (s *seal) declared(canonical []byte) (sealed []byte, hash string, err error) {
	var out map[string]any
	if err := json.Unmarshal(canonical, &out); err != nil {
		return nil, "", err
	}
	var values struct {
		Data map[string][]byte `json:"data"`
	}
	if err := json.Unmarshal(canonical, &values); err != nil {
		return nil, "", err
	}
	for name, value := range values.Data {
		if values.Data[name], err = s.value(value); err != nil {
			return nil, "", err
		}
	}
	if values.Data != nil {
		out["data"] = values.Data
	}
	if annotations, ok := dig(out, "metadata", "annotations").(map[string]any); ok {
		delete(annotations, lastApplied)
	}
	if sealed, err = json.Marshal(out); err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256(sealed)
	return sealed, hex.EncodeToString(sum[:16]), nil
}

// item is an item with ids for values.
func (s *seal) item(item manifests.Item) (manifests.Item, error) {
	if s == nil || item.Key.Resource != schema.Secrets.Resource {
		return item, nil
	}
	var err error
	if item.Declared, item.Hash, err = s.declared(item.Declared); err != nil {
		return item, fmt.Errorf("%s: %w", item.Key, err)
	}
	item.Object, err = s.object(item.Object)
	return item, err
}

// owned is an inventory's entry with ids for values.
func (s *seal) owned(key schema.Key, o Owned) (Owned, error) {
	if key.Resource != schema.Secrets.Resource {
		return o, nil
	}
	sealed, hash, err := s.declared(o.Entry.Declared)
	if err != nil {
		return o, fmt.Errorf("inventory %s: %w", key, err)
	}
	o.Entry.Declared, o.Entry.Hash = sealed, hash
	return o, nil
}
