package memory

import (
	"context"
	"testing"

	"github.com/evenkeel/evenkeel/schema/registry/registrytest"
)

func TestStore(t *testing.T) {
	registrytest.Run(t, func(t *testing.T) registrytest.Harness {
		s := New()
		return registrytest.Harness{Store: s, Compact: func(_ context.Context, revision int64) error {
			s.Compact(revision)
			return nil
		}}
	})
}
