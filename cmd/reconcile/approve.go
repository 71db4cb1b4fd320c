package main

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/cmd/internal/backend"
	"github.com/evenkeel/evenkeel/reconciler"
)

// approve is `reconcile approve`.
type approve struct {
	etcd    backend.Flags
	dataDir string
}

func newApprove() *cobra.Command {
	a := &approve{}
	cmd := &cobra.Command{
		Use:   "approve HASH",
		Short: "Let a plan pass that a guard holds",
		Long: `approve lets the held plan with this hash pass, once. The control plane that
runs applies it at once, if it still is the same plan: when the source or what it
would delete has changed meanwhile, the plan has another hash and stays held.

` + "`reconcile status`" + ` and ` + "`reconcile --dry-run`" + ` show what is held, why, and its hash.`,
		Example: `  reconcile approve 1f0c3a9be2d4
  reconcile approve --etcd 10.0.0.1:2379 1f0c3a9be2d4`,
		Args: cobra.ExactArgs(1),
		RunE: a.run,
	}
	a.etcd.AddFlags(cmd)
	cmd.Flags().StringVar(&a.dataDir, "data-dir", "/var/lib/evenkeel", "where `reconcile up` keeps its data; used without --etcd")
	return cmd
}

func (a *approve) run(cmd *cobra.Command, args []string) error {
	if err := findEmbedded(&a.etcd, a.dataDir); err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	store, closeStore, err := a.etcd.Open(cmd.Context(), logger)
	if err != nil {
		return err
	}
	defer closeStore()
	head, err := reconciler.Approve(cmd.Context(), store, args[0], time.Now())
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "Approved plan %s of %s.\n", head.Plan, head.Location)
	return nil
}
