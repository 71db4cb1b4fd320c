package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/cmd/internal/command"
	"github.com/evenkeel/evenkeel/manifests"
)

func newExplain() *cobra.Command {
	return &cobra.Command{
		Use:   "explain [CODE…]",
		Short: "Explain what a finding in a manifest means, and how to mend it",
		Example: `  reconcile explain E0104
  reconcile explain                 all codes`,
		RunE: explain,
	}
}

// explain prints the pages of the codes, or a list of all.
func explain(cmd *cobra.Command, codes []string) error {
	if len(codes) == 0 {
		return listCodes(cmd.OutOrStdout())
	}
	var chosen []manifests.Page
	for _, code := range codes {
		page, ok := manifests.PageOf(strings.ToUpper(code))
		if !ok {
			return unknownCode(code)
		}
		chosen = append(chosen, page)
	}
	for i, page := range chosen {
		if i > 0 {
			fmt.Fprintln(cmd.OutOrStdout())
		}
		if err := page.Render(cmd.OutOrStdout()); err != nil {
			return err
		}
	}
	return nil
}

func unknownCode(code string) error {
	err := fmt.Errorf("unknown code %q; all are listed by: reconcile explain", code)
	if near := manifests.NearestCode(code); near != "" {
		err = fmt.Errorf("unknown code %q: did you mean %q?", code, near)
	}
	return &command.ExitError{Code: exitErrors, Err: err}
}

func listCodes(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, p := range manifests.Pages() {
		fmt.Fprintf(table, "%s\t%s\n", p.Code, p.Title)
	}
	return table.Flush()
}
