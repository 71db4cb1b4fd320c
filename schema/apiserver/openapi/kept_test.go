package openapi

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestKept wants a value often, then not at all for a while, and then again.
func TestKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		made := 0
		k := kept[int]{make: func() (int, error) { made++; return made, nil }, idle: time.Minute}
		want := func(value int) {
			t.Helper()
			if got, err := k.get(); got != value || err != nil {
				t.Errorf("got %d, %v; want %d", got, err, value)
			}
		}
		for range 5 {
			want(1)
			pass(50 * time.Second)
		}
		pass(50 * time.Second)
		if k.there {
			t.Error("it is still held")
		}
		want(2)
		pass(2 * time.Minute)
		want(3)
		pass(2 * time.Minute)
	})
}

// pass lets the bubble's time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
