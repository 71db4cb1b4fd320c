package manifests

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// pair is one key of a mapping with its value, aliases followed.
type pair struct {
	key     string
	keyNode *yaml.Node
	value   *yaml.Node
	aliased bool
}

// pairs returns the keys of a mapping in order of name, with merged mappings
// ("<<") taken in and doubled keys reported. Whoever is done with them gives
// them back to the scratch memory.
func (d *decoder) pairs(n *yaml.Node) []pair {
	pairs := d.scratch.take(len(n.Content) / 2)
	var merges []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, aliasedKey := follow(n.Content[i])
		v, aliased := follow(n.Content[i+1])
		if k.ShortTag() == "!!merge" && k.Style&quoted == 0 {
			merges = append(merges, v)
			continue
		}
		if name, ok := d.keyName(k); ok {
			pairs = append(pairs, pair{key: name, keyNode: k, value: v, aliased: aliased || aliasedKey})
		}
	}
	slices.SortStableFunc(pairs, func(a, b pair) int { return cmp.Compare(a.key, b.key) })
	pairs = d.withoutDoubles(pairs)
	if len(merges) > 0 {
		pairs = d.merge(pairs, merges, 0)
	}
	return pairs
}

func (d *decoder) withoutDoubles(pairs []pair) []pair {
	kept := pairs[:0]
	for _, pr := range pairs {
		if len(kept) > 0 && kept[len(kept)-1].key == pr.key {
			first := kept[len(kept)-1].keyNode
			d.report(pr.keyNode, Diagnostic{Code: codeDuplicateKey, Message: fmt.Sprintf("duplicate key %q", pr.key), Suggestion: fmt.Sprintf("already set on line %d", d.line(first))})
			continue
		}
		kept = append(kept, pr)
	}
	return kept
}

// imply adds a key that is missing or says nothing.
func imply(pairs []pair, n *yaml.Node, key, value string) []pair {
	i, found := slices.BinarySearchFunc(pairs, key, comparePair)
	if found && !isNull(pairs[i].value) && (pairs[i].value.Kind != yaml.ScalarNode || pairs[i].value.Value != "") {
		return pairs
	}
	p := pair{key: key, keyNode: n, value: &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value, Line: n.Line, Column: n.Column}}
	if found {
		pairs[i] = p
		return pairs
	}
	return slices.Insert(pairs, i, p)
}

func comparePair(p pair, key string) int { return cmp.Compare(p.key, key) }

// merge adds what the merged mappings have and the mapping itself has not;
// the first of several wins.
func (d *decoder) merge(pairs []pair, merges []*yaml.Node, depth int) []pair {
	for _, m := range merges {
		if m.Kind == yaml.SequenceNode && depth < maxDepth {
			var parts []*yaml.Node
			for _, c := range m.Content {
				c, _ = follow(c)
				parts = append(parts, c)
			}
			pairs = d.merge(pairs, parts, depth+1)
			continue
		}
		if m.Kind != yaml.MappingNode {
			d.report(m, Diagnostic{Code: codeWrongType, Message: "<<: expected mapping, found " + typeOf(m)})
			continue
		}
		if !d.countAliased(m, 1+len(m.Content)/2) {
			return pairs
		}
		merged := d.pairs(m)
		for _, pr := range merged {
			i, found := slices.BinarySearchFunc(pairs, pr.key, comparePair)
			if !found {
				pr.aliased = true
				pairs = slices.Insert(pairs, i, pr)
			}
		}
		d.scratch.give(merged)
	}
	return pairs
}

// keyName returns a key's text. Integers are taken as they are written, as
// Kubernetes takes them; what would be changed on the way is refused.
func (d *decoder) keyName(k *yaml.Node) (string, bool) {
	if k.Kind == yaml.ScalarNode {
		switch typ := typeOf(k); {
		case typ == typeString:
			return k.Value, true
		case typ == typeInteger:
			if i, ok := parseInt(k.Value); ok && strconv.FormatInt(i, 10) == k.Value {
				return k.Value, true
			}
		}
	}
	suggestion := "put it in quotes"
	if isFlowMapping(k) {
		suggestion = isTemplate
	}
	d.report(k, Diagnostic{Code: codeKey, Message: "expected a string as key, found " + typeOf(k), Suggestion: suggestion})
	return "", false
}

// countAliased counts n values reached through aliases against the document's
// limit.
func (d *decoder) countAliased(at *yaml.Node, n int) bool {
	before := *d.aliased
	*d.aliased += n
	if before <= maxAliasedNodes && *d.aliased > maxAliasedNodes {
		d.report(at, Diagnostic{Code: codeAliases, Message: fmt.Sprintf("more than %d values are reached through aliases", maxAliasedNodes), Suggestion: "write them out"})
	}
	return *d.aliased <= maxAliasedNodes
}

// follow returns what an alias stands for.
func follow(n *yaml.Node) (*yaml.Node, bool) {
	aliased := false
	for n.Kind == yaml.AliasNode {
		n, aliased = n.Alias, true
	}
	return n, aliased
}
