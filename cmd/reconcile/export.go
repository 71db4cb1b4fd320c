package main

import (
	"bufio"
	"errors"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/cmd/internal/backend"
	"github.com/evenkeel/evenkeel/reconciler"
)

// export is `reconcile export`.
type export struct {
	etcd    backend.Flags
	dataDir string
}

func newExport() *cobra.Command {
	e := &export{}
	cmd := &cobra.Command{
		Use:   "export > state.json",
		Short: "Write the state that a plan is made against",
		Long: `export writes all objects of the cluster, what was applied and from where, so
that a plan can be made without the cluster: reconcile --dry-run --state.

Values of secrets are not in it, but ids of them, which say which are equal. An
id is a salted, slow hash: whoever has the file can test guesses of a value, so
a value that is easy to guess is not safe in it.`,
		Example: `  reconcile export > state.json
  reconcile --dry-run --state state.json .`,
		Args: cobra.NoArgs,
		RunE: e.run,
	}
	e.etcd.AddFlags(cmd)
	cmd.Flags().StringVar(&e.dataDir, "data-dir", "/var/lib/evenkeel", "where `reconcile up` keeps its data; used without --etcd")
	return cmd
}

func (e *export) run(cmd *cobra.Command, _ []string) error {
	if err := findEmbedded(&e.etcd, e.dataDir); err != nil {
		return err
	}
	mirror, err := readMirror(cmd.Context(), e.etcd, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		return err
	}
	base, err := reconciler.LiveBase(mirror)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(cmd.OutOrStdout())
	return errors.Join(base.Export(out), out.Flush())
}
