package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

const podmanLabel = "evenkeel-bench"

// openPodman loads the image into podman, with the OCI runtime that the node
// agent has; false where podman is not installed or starts no container, which
// it says why.
func openPodman(ctx context.Context, archive string) bool {
	if _, err := exec.LookPath("podman"); err != nil {
		return false
	}
	err := podman(ctx, "load", "--quiet", "--input", archive)
	if err == nil {
		_, err = podmanRuns(ctx, 1)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: podman is left out: %v\n", err)
	}
	return err == nil
}

// podmanStarts times podman starting one container, and as many as a batch has
// with 4 at once.
func podmanStarts(ctx context.Context) (one, many float64, err error) {
	if one, err = podmanRuns(ctx, 1); err != nil {
		return 0, 0, err
	}
	many, err = podmanRuns(ctx, manyPods)
	return one, many, err
}

func podmanRuns(ctx context.Context, n int) (float64, error) {
	began := time.Now()
	var group errgroup.Group
	group.SetLimit(4)
	for range n {
		group.Go(func() error {
			// podman asks for the machine's highest limits, which not every
			// machine lets it have.
			return podman(ctx, "--runtime", "runc", "run", "--detach", "--pull=never", "--label", podmanLabel,
				"--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", echoImage)
		})
	}
	err := group.Wait()
	took := seconds(began)
	return took, errors.Join(err, podman(ctx, "rm", "--force", "--time", "0", "--filter", "label="+podmanLabel))
}

func podman(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "podman", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("podman %s: %w: %s", args[0], err, strings.TrimSpace(string(out)))
	}
	return nil
}
