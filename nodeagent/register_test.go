package nodeagent

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/nodeagent/runtime/fake"
)

// TestRuntimeAwayForAMoment holds the node ready while its container runtime is
// restarted, and not when it stays away.
func TestRuntimeAwayForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := fake.New()
		var seen runtimeSeen
		for _, step := range []struct {
			name string
			wait time.Duration
			fail bool
			down bool
		}{
			{"answers", 0, false, false},
			{"just gone", time.Second, true, false},
			{"still gone", runtimeGrace - time.Second, true, false},
			{"gone for too long", time.Second, true, true},
			{"back", time.Second, false, false},
			{"gone again", time.Hour, true, false},
		} {
			pause := time.NewTimer(step.wait)
			<-pause.C
			if step.fail {
				rt.FailNext("Version", runtime.ErrUnavailable)
			}
			err := seen.ask(t.Context(), rt)
			if down := err != nil; down != step.down || down && !errors.Is(err, runtime.ErrUnavailable) {
				t.Errorf("%s: %v, want down %v", step.name, err, step.down)
			}
			if seen.version == "" {
				t.Errorf("%s: version forgotten", step.name)
			}
		}
		var unknown runtimeSeen
		rt.FailNext("Version", runtime.ErrUnavailable)
		if unknown.ask(t.Context(), rt) == nil {
			t.Error("a runtime that never answered counts as there")
		}
	})
}
