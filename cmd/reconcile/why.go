package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/cmd/internal/backend"
	"github.com/evenkeel/evenkeel/reconciler/why"
)

// whyCommand is `reconcile why`.
type whyCommand struct {
	etcd      backend.Flags
	dataDir   string
	namespace string
	output    string
}

func newWhy() *cobra.Command {
	w := &whyCommand{}
	cmd := &cobra.Command{
		Use:   "why KIND/NAME",
		Short: "Trace an object back to the file and the commit that it comes from",
		Long: `why shows who made an object, the file, line and commit that declare it, and of
a pod why it is where it is and what keeps it from being ready.`,
		Example: `  reconcile why pod/web-x7k2p
  reconcile why rc/shop/web
  reconcile why --namespace shop svc/web -o json`,
		Args: cobra.ExactArgs(1),
		RunE: w.run,
	}
	w.etcd.AddFlags(cmd)
	cmd.Flags().StringVar(&w.dataDir, "data-dir", "/var/lib/evenkeel", "where `reconcile up` keeps its data; used without --etcd")
	cmd.Flags().StringVarP(&w.namespace, "namespace", "n", "", "namespace of the object (default: any)")
	cmd.Flags().StringVarP(&w.output, "output", "o", "text", "text or json")
	return cmd
}

func (w *whyCommand) run(cmd *cobra.Command, args []string) error {
	if w.output != "text" && w.output != "json" {
		return fmt.Errorf("--output %q: must be text or json", w.output)
	}
	if err := findEmbedded(&w.etcd, w.dataDir); err != nil {
		return err
	}
	mirror, err := readMirror(cmd.Context(), w.etcd, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		return err
	}
	key, err := why.Find(mirror, args[0], w.namespace)
	if err != nil {
		return err
	}
	answer, err := why.Explain(mirror, key)
	if err != nil {
		return err
	}
	if w.output == "json" {
		encoder := json.NewEncoder(cmd.OutOrStdout())
		encoder.SetIndent("", "  ")
		return encoder.Encode(answer)
	}
	return answer.Render(cmd.OutOrStdout(), time.Now())
}
