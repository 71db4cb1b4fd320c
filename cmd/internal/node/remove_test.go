package node

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestRemoveOfAnotherNode: a name that is not the node's touches nothing, and
// says which is.
func TestRemoveOfAnotherNode(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "pods", "edge-7"), 0o755); err != nil {
		t.Fatal(err)
	}
	f := Flags{Name: "edge-8", IP: "192.0.2.1", DataDir: dir, RunDir: filepath.Join(dir, "run"), LogDir: filepath.Join(dir, "log"), OCIRuntime: "runc"}
	_, err := Remove(t.Context(), f, 0, slog.New(slog.DiscardHandler))
	if err == nil || !strings.HasSuffix(err.Error(), "holds nothing of node edge-8, but of edge-7: say --node-name edge-7") {
		t.Fatalf("err = %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left in the data directory: %v, %v", left, err)
	}
}

func TestPlaceArgs(t *testing.T) {
	var f Flags
	cmd := &cobra.Command{}
	f.AddFlags(cmd)
	if err := cmd.ParseFlags([]string{"--data-dir=/d", "--images=/i", "--node-name", "edge-7"}); err != nil {
		t.Fatal(err)
	}
	if got, want := PlaceArgs(cmd), " --data-dir /d --node-name edge-7"; got != want {
		t.Errorf("PlaceArgs = %q, want %q", got, want)
	}
}
