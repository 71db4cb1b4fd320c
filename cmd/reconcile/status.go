package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/evenkeel/evenkeel/cmd/internal/backend"
	"github.com/evenkeel/evenkeel/reconciler/status"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/registry/etcd/embedded"
)

// statusCommand is `reconcile status`.
type statusCommand struct {
	etcd    backend.Flags
	dataDir string
	output  string
	watch   bool
}

func newStatus() *cobra.Command {
	s := &statusCommand{}
	cmd := &cobra.Command{
		Use:   "status [flags]",
		Short: "Show what is in force, what is ready, and why the rest is not",
		Example: `  reconcile status
  reconcile status --watch
  reconcile status -o json | jq .ready`,
		Args: cobra.NoArgs,
		RunE: s.run,
	}
	s.etcd.AddFlags(cmd)
	cmd.Flags().StringVar(&s.dataDir, "data-dir", "/var/lib/evenkeel", "where reconcile up keeps its data; used without --etcd")
	cmd.Flags().StringVarP(&s.output, "output", "o", "text", "text or json")
	cmd.Flags().BoolVarP(&s.watch, "watch", "w", false, "show it again whenever it changes")
	return cmd
}

func (s *statusCommand) run(cmd *cobra.Command, _ []string) error {
	if s.output != "text" && s.output != "json" {
		return fmt.Errorf("--output %q: must be text or json", s.output)
	}
	if err := findEmbedded(&s.etcd, s.dataDir); err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if !s.watch {
		mirror, err := readMirror(cmd.Context(), s.etcd, logger)
		if err != nil {
			return err
		}
		return s.show(cmd.OutOrStdout(), mirror)
	}
	return s.follow(cmd, logger)
}

// findEmbedded points the flags at the etcd of `reconcile up`, if no other was
// given.
func findEmbedded(flags *backend.Flags, dataDir string) error {
	if flags.Given() {
		return nil
	}
	dir, err := filepath.Abs(etcdDir(dataDir))
	if err != nil {
		return err
	}
	if _, err := os.Stat(embedded.SocketPath(dir)); err != nil {
		return errors.New("no `reconcile up` runs on this machine with that --data-dir; for a cluster, give --etcd")
	}
	flags.Endpoints = []string{embedded.Endpoint(dir)}
	return nil
}

func (s *statusCommand) show(w io.Writer, mirror *registry.Mirror) error {
	report, err := status.Compute(mirror)
	if err != nil {
		return err
	}
	if s.output == "json" {
		encoder := json.NewEncoder(w)
		if !s.watch {
			encoder.SetIndent("", "  ")
		}
		return encoder.Encode(report)
	}
	return report.Render(w, time.Now())
}

// minRedraw keeps a busy cluster from filling the terminal.
const minRedraw = 200 * time.Millisecond

func (s *statusCommand) follow(cmd *cobra.Command, logger *slog.Logger) error {
	store, closeStore, err := s.etcd.Open(cmd.Context(), logger)
	if err != nil {
		return err
	}
	defer closeStore()
	mirror := registry.NewMirror(registry.MirrorConfig{Store: store, Logger: logger})
	ctx, cancel := context.WithCancel(cmd.Context())
	done := make(chan error, 1)
	go func() { done <- mirror.Run(ctx) }()
	defer func() { cancel(); <-done }()
	objects := mirror.Subscribe(schema.Kinds...)
	defer objects.Close()
	books := mirror.SubscribeRaw(schema.SourcesPrefix)
	defer books.Close()
	select {
	case <-ctx.Done():
		return nil
	case <-mirror.Synced():
	}
	for {
		objects.Take()
		books.Take()
		if s.output == "text" && term.IsTerminal(int(os.Stdout.Fd())) {
			fmt.Fprint(cmd.OutOrStdout(), "\x1b[H\x1b[2J\x1b[3J")
		}
		if err := s.show(cmd.OutOrStdout(), mirror); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(minRedraw):
		}
		select {
		case <-ctx.Done():
			return nil
		case <-objects.Ready():
		case <-books.Ready():
		}
	}
}
