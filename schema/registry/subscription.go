package registry

import (
	"context"
	"slices"
	"sync"

	"github.com/evenkeel/evenkeel/schema"
)

// Subscription collects the keys of what changed in a Mirror until somebody
// asks: a key that changed ten times is delivered once.
type Subscription struct {
	mirror    *Mirror
	resources []string
	prefix    string

	mu    sync.Mutex
	dirty map[schema.Key]bool
	ready chan struct{} // has room for one: something is dirty
}

// Subscribe returns a subscription to the objects of some kinds, all of which
// are dirty at first, as are those of which only an agent's status is there.
// The caller closes it.
func (m *Mirror) Subscribe(kinds ...*schema.Kind) *Subscription {
	s := m.newSubscription()
	for _, k := range kinds {
		s.resources = append(s.resources, k.Resource)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.subs[s] = true
	for _, resource := range s.resources {
		for key := range m.state.objects[resource] {
			s.mark(key)
		}
	}
	for key := range m.state.podState {
		s.mark(key)
	}
	for name := range m.state.nodeStat {
		s.mark(schema.Nodes.Key("", name))
	}
	s.wake()
	return s
}

// SubscribeRaw returns a subscription to keys that are no objects and begin
// with a prefix; they come as the Name of a Key without a resource.
func (m *Mirror) SubscribeRaw(prefix string) *Subscription {
	s := m.newSubscription()
	s.prefix = prefix
	m.mu.Lock()
	defer m.mu.Unlock()
	m.subs[s] = true
	for _, kv := range m.raw.withPrefix(prefix) {
		s.mark(schema.Key{Name: kv.Key})
	}
	s.wake()
	return s
}

func (m *Mirror) newSubscription() *Subscription {
	return &Subscription{mirror: m, dirty: map[schema.Key]bool{}, ready: make(chan struct{}, 1)}
}

// Close ends the subscription.
func (s *Subscription) Close() {
	s.mirror.mu.Lock()
	defer s.mirror.mu.Unlock()
	delete(s.mirror.subs, s)
}

func (s *Subscription) wants(key schema.Key) bool {
	if key.Resource == "" {
		return s.prefix != "" && len(key.Name) >= len(s.prefix) && key.Name[:len(s.prefix)] == s.prefix
	}
	return slices.Contains(s.resources, key.Resource)
}

func (s *Subscription) mark(key schema.Key) {
	if !s.wants(key) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirty[key] = true
}

// wake is called when a batch is whole, so that nobody sees half of one.
func (s *Subscription) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.dirty) == 0 {
		return
	}
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// Ready receives when there is something to Take.
func (s *Subscription) Ready() <-chan struct{} { return s.ready }

// Take returns the keys that changed since the last Take, sorted.
func (s *Subscription) Take() []schema.Key {
	s.mu.Lock()
	dirty := s.dirty
	s.dirty = map[schema.Key]bool{}
	s.mu.Unlock()
	out := make([]schema.Key, 0, len(dirty))
	for key := range dirty {
		out = append(out, key)
	}
	slices.SortFunc(out, schema.Key.Compare)
	return out
}

// Next blocks until something changed, and takes it; nil when ctx ends.
func (s *Subscription) Next(ctx context.Context) []schema.Key {
	select {
	case <-ctx.Done():
		return nil
	case <-s.ready:
		return s.Take()
	}
}
