package nftables

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// chunk is how many elements go into one message; a message's list of elements
// may not be longer than 64 KiB.
const chunk = 256

// applyLocked puts a delta in force in one transaction. A table that has sets
// of another shape, made by another version, is replaced, likewise in one.
func (b *Backend) applyLocked(d delta) error {
	if d.empty() {
		return nil
	}
	err := b.transactLocked(d, false)
	if d.base && (errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EBUSY)) {
		b.log.Warn("table does not fit this version, replacing it", "table", b.table.t.Name, "err", err)
		_ = b.conn.CloseLasting()
		if err := b.dialLocked(); err != nil {
			return err
		}
		fresh := (&kernelState{}).to(d.everything)
		err = b.transactLocked(fresh, true)
	}
	if err == nil && d.base {
		err = b.openLoopbackLocked()
	}
	return err
}

func (b *Backend) transactLocked(d delta, replace bool) error {
	if d.base {
		if err := b.addBase(replace); err != nil {
			return err
		}
	}
	if err := b.changeElements(d.del, b.conn.SetDeleteElements); err != nil {
		return err
	}
	for _, name := range d.delChains {
		c := &nft.Chain{Table: b.table.t, Name: name}
		b.conn.FlushChain(c)
		b.conn.DelChain(c)
	}
	for _, name := range d.delSets {
		b.conn.DelSet(&nft.Set{Table: b.table.t, Name: name})
	}
	for _, c := range d.addChains {
		b.addChain(&nft.Chain{Table: b.table.t, Name: c.String()}, b.table.spreadRules(c))
	}
	for _, sp := range d.stickies {
		b.addChain(&nft.Chain{Table: b.table.t, Name: chainName(sp)}, b.table.stickyRules(sp))
	}
	if err := b.changeElements(d.add, b.conn.SetAddElements); err != nil {
		return err
	}
	return b.conn.Flush()
}

func (b *Backend) addBase(replace bool) error {
	b.conn.AddTable(b.table.t)
	if replace {
		b.conn.DelTable(b.table.t)
		b.conn.AddTable(b.table.t)
	}
	for _, s := range append(b.table.sets[:], b.table.affinity) {
		if err := b.conn.AddSet(s, nil); err != nil {
			return fmt.Errorf("add set %s: %w", s.Name, err)
		}
	}
	rules := b.table.baseRules()
	for _, c := range b.table.baseChains() {
		b.addChain(c, rules[c.Name])
	}
	return nil
}

// addChain makes a chain hold exactly these rules.
func (b *Backend) addChain(c *nft.Chain, rules [][]expr.Any) {
	b.conn.AddChain(c)
	b.conn.FlushChain(c)
	for _, exprs := range rules {
		b.conn.AddRule(&nft.Rule{Table: b.table.t, Chain: c, Exprs: exprs})
	}
}

// changeElements queues elements set by set, in messages of a size the kernel
// takes.
func (b *Backend) changeElements(all []element, queue func(*nft.Set, []nft.SetElement) error) error {
	var bySet [setCount][]nft.SetElement
	for _, e := range all {
		ne := nft.SetElement{Key: []byte(e.key)}
		switch e.set {
		case services:
			ne.VerdictData = jump(e.value)
		case endpoints:
			ne.Val = []byte(e.value)
		}
		bySet[e.set] = append(bySet[e.set], ne)
	}
	for id, elems := range bySet {
		for len(elems) > 0 {
			k := min(chunk, len(elems))
			if err := queue(b.table.sets[id], elems[:k]); err != nil {
				return fmt.Errorf("change set %s: %w", setNames[id], err)
			}
			elems = elems[k:]
		}
	}
	return nil
}

// readLocked returns what the kernel holds of the table.
func (b *Backend) readLocked() (*state, error) {
	k := &kernelState{elements: map[element]bool{}, chains: map[string]bool{}, sets: map[string]bool{}}
	tables, err := b.conn.ListTablesOfFamily(family)
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	mine := func(t *nft.Table) bool { return t.Name == b.table.t.Name }
	if !slices.ContainsFunc(tables, mine) {
		return &state{read: k}, nil
	}
	chains, err := b.conn.ListChainsOfTableFamily(family)
	if err != nil {
		return nil, fmt.Errorf("list chains: %w", err)
	}
	for _, c := range chains {
		if mine(c.Table) {
			k.chains[c.Name] = true
		}
	}
	sets, err := b.conn.GetSets(b.table.t)
	if err != nil {
		return nil, fmt.Errorf("list sets of %s: %w", b.table.t.Name, err)
	}
	for _, s := range sets {
		k.sets[s.Name] = true
	}
	for id := range setCount {
		if !k.sets[setNames[id]] {
			continue
		}
		elems, err := b.conn.GetSetElements(b.table.sets[id])
		if err != nil {
			return nil, fmt.Errorf("read set %s: %w", setNames[id], err)
		}
		for _, e := range elems {
			k.elements[decodeElement(id, e)] = true
		}
	}
	return &state{read: k}, nil
}

func decodeElement(id setID, e nft.SetElement) element {
	out := element{set: id, key: string(e.Key)}
	switch id {
	case services:
		out.value = verdictChain(e.Val)
	case endpoints:
		out.value = string(e.Val)
	}
	return out
}

// verdictChain is the chain a verdict leads to, empty when it leads to none.
func verdictChain(verdict []byte) string {
	ad, err := netlink.NewAttributeDecoder(verdict)
	if err != nil {
		return ""
	}
	for ad.Next() {
		if ad.Type() == unix.NFTA_VERDICT_CHAIN {
			return strings.TrimRight(ad.String(), "\x00")
		}
	}
	return ""
}
