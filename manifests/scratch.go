package manifests

import (
	"sync"

	"github.com/evenkeel/evenkeel/manifests/block"
)

// scratch is memory that one document after another is decoded in. Nothing of
// it is kept: what an object keeps is copied out.
type scratch struct {
	json   []byte
	places places
	pairs  [][]pair // not in use
	block  block.Reader
}

// maxScratch bounds, in bytes or places, what an unusually large document
// leaves behind.
const maxScratch = 64 << 10

var scratches = sync.Pool{New: func() any { return &scratch{} }}

// release gives the memory to the next document.
func (s *scratch) release() {
	if cap(s.json) <= maxScratch && cap(s.places.all) <= maxScratch {
		scratches.Put(s)
	}
}

// take returns an empty slice with room for n pairs.
func (s *scratch) take(n int) []pair {
	last := len(s.pairs) - 1
	if last < 0 || cap(s.pairs[last]) < n {
		return make([]pair, 0, max(n, 16))
	}
	pairs := s.pairs[last]
	s.pairs = s.pairs[:last]
	return pairs
}

// maxScratchPairs is how large a slice is used again; a larger one would be
// cleared at great cost after every small mapping.
const maxScratchPairs = 256

// give takes pairs back that nobody reads any more.
func (s *scratch) give(pairs []pair) {
	if cap(pairs) > maxScratchPairs {
		return
	}
	clear(pairs[:cap(pairs)]) // of nodes
	s.pairs = append(s.pairs, pairs[:0])
}
