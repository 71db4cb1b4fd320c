package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
)

// ownCPU is the CPU time that this process has used.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// apiMemory reads the idle memory of `reconcile` with the guestbook: with the
// API off, on, and on after clients have used it, in turns.
func apiMemory(ctx context.Context, bin string, runs int) ([]Result, error) {
	s, err := startServed(ctx, bin)
	if err != nil {
		return nil, err
	}
	all, err := s.memories(ctx, runs)
	if err = errors.Join(err, s.close()); err != nil {
		return nil, err
	}
	names := []string{"reconcile, idle, API off", "reconcile, idle", "reconcile, idle after its API was used"}
	var out []Result
	for i, name := range names {
		out = append(out, summary(name+", resident", "MiB", 0, all[i].resident), summary(name+", anonymous", "MiB", 0, all[i].anonymous))
	}
	return append(out,
		summary("the API adds to idle memory, resident", "MiB", 35, differences(all[1].resident, all[0].resident)),
		summary("the API adds to idle memory, anonymous", "MiB", 35, differences(all[1].anonymous, all[0].anonymous)),
		summary("the API adds once it was used, anonymous", "MiB", 0, differences(all[2].anonymous, all[0].anonymous)),
	), nil
}

// memory is that of the same process in several runs.
type memory struct{ resident, anonymous []float64 }

func (m *memory) read(ctx context.Context, pid int) error {
	pause(ctx, idle)
	all, anonymous, err := resident(pid)
	m.resident, m.anonymous = append(m.resident, all), append(m.anonymous, anonymous)
	return errors.Join(err, ctx.Err())
}

func (s *served) memories(ctx context.Context, runs int) ([3]memory, error) {
	var out [3]memory
	if err := os.CopyFS(filepath.Join(s.dir, "source"), os.DirFS("testdata/guestbook")); err != nil {
		return out, err
	}
	for range runs {
		if err := s.again("off"); err != nil {
			return out, err
		}
		if err := out[0].read(ctx, s.program.Process.Pid); err != nil {
			return out, err
		}
		address, err := freeAddress()
		if err != nil {
			return out, err
		}
		if err := s.again(address); err != nil {
			return out, err
		}
		if err := out[1].read(ctx, s.program.Process.Pid); err != nil {
			return out, err
		}
		if err := s.use(ctx); err != nil {
			return out, err
		}
		if err := out[2].read(ctx, s.program.Process.Pid); err != nil {
			return out, err
		}
	}
	return out, nil
}

// again starts the program anew.
func (s *served) again(address string) error {
	if err := stop(s.program); err != nil {
		return err
	}
	var err error
	s.program, err = s.reconcile(address)
	return err
}

// use does with the API what kubectl does: it discovers, asks what is
// described, lists and writes.
func (s *served) use(ctx context.Context) error {
	short, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := s.connect(short); err != nil {
		return err
	}
	for _, path := range []string{"/api", "/apis", "/openapi/v3", "/openapi/v3/api/v1", "/api/v1/pods", "/api/v1/configmaps"} {
		if _, err := s.fetch(ctx, path, runtime.ContentTypeJSON); err != nil {
			return err
		}
	}
	_, err := s.writes(ctx)
	return err
}

// differences subtracts run by run.
func differences(a, b []float64) []float64 {
	out := make([]float64, len(a))
	for i := range a {
		out[i] = a[i] - b[i]
	}
	return out
}
