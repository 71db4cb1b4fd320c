package git

import (
	"testing"
)

func TestDescends(t *testing.T) {
	w := newWork(t)
	first := w.commit("one", "a.yaml", "a: 1\n")
	second := w.commit("two", "a.yaml", "a: 2\n")
	w.git("checkout", "-q", "-b", "other", first)
	other := w.commit("three", "a.yaml", "a: 3\n")
	s, err := New(Config{URL: w.dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Snapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, commit, from string
		descends, known    bool
	}{
		{"child", second, first, true, true},
		{"itself", first, first, true, true},
		{"sibling", other, second, false, true},
		{"parent", first, second, false, true},
		{"a commit that is not here", second, "0123456789012345678901234567890123456789", false, false},
	} {
		if descends, known := s.Descends(t.Context(), test.commit, test.from); descends != test.descends || known != test.known {
			t.Errorf("%s: %v, %v", test.name, descends, known)
		}
	}
}
