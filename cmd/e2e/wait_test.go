package e2e

import (
	"testing"
	"time"
)

// patience bounds what is not measured: how long something may take on a busy
// machine before the test gives up.
const patience = 60 * time.Second

const pollEvery = 20 * time.Millisecond

// eventually asks until check returns nil, and returns how long that took. It
// fails the test with check's last error after the bound.
func eventually(t testing.TB, bound time.Duration, what string, check func() error) time.Duration {
	t.Helper()
	began := time.Now()
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return time.Since(began)
		}
		if time.Since(began) > bound {
			t.Fatalf("%s: not within %v: %v", what, bound, err)
		}
		<-ticker.C
	}
}

// steadily asks for a while and fails the test as soon as check does.
func steadily(t testing.TB, during time.Duration, what string, check func() error) {
	t.Helper()
	began := time.Now()
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for time.Since(began) < during {
		if err := check(); err != nil {
			t.Fatalf("%s: after %v: %v", what, time.Since(began), err)
		}
		<-ticker.C
	}
}
