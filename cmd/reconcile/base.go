package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/reconciler"
)

// readBase returns what the plan is made against.
func (d *dryRun) readBase(cmd *cobra.Command, in dryInput, loader *manifests.Loader, now []manifests.Snapshot) (*reconciler.Base, error) {
	switch {
	case d.base != "":
		return d.declaredBase(cmd, in, loader, now)
	case d.state != "":
		return readState(cmd, d.state)
	case in.etcd.Given():
		mirror, err := readMirror(cmd.Context(), in.etcd, in.logger)
		if err != nil {
			return nil, err
		}
		return reconciler.LiveBase(mirror)
	}
	return reconciler.EmptyBase(), nil
}

// declaredBase is what the sources declare at the other revision. What is
// broken there was never applied: it is said, and counts as absent.
func (d *dryRun) declaredBase(cmd *cobra.Command, in dryInput, loader *manifests.Loader, now []manifests.Snapshot) (*reconciler.Base, error) {
	var before []manifests.Snapshot
	for i, place := range in.places {
		snapshot, err := in.flags.Before(cmd.Context(), place, now[i], d.base, in.dataDir, in.logger)
		if err != nil {
			return nil, err
		}
		before = append(before, snapshot)
	}
	sets, findings := loader.Load(cmd.Context(), before...)
	if errs, _ := findings.Count(); errs > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "note: %s has %d errors; what they are about counts as not there\n", d.base, errs)
	}
	return reconciler.DeclaredBase(sets...), nil
}

func readState(cmd *cobra.Command, path string) (*reconciler.Base, error) {
	var r io.Reader = cmd.InOrStdin()
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("--state: %w", err)
		}
		defer file.Close()
		r = file
	}
	base, err := reconciler.ReadBase(r)
	if err != nil {
		return nil, fmt.Errorf("--state %s: %w", path, err)
	}
	return base, nil
}
