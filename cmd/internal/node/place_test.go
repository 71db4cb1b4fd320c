package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestCheckPlace(t *testing.T) {
	dir := t.TempDir()
	f := Flags{Name: "edge-8", DataDir: dir}
	if err := f.CheckPlace(); err != nil {
		t.Errorf("nothing there: %v", err)
	}
	for _, node := range []string{"edge-7", "edge-8"} {
		if err := os.MkdirAll(filepath.Join(dir, "pods", node), 0o755); err != nil {
			t.Fatal(err)
		}
		err := f.CheckPlace()
		if node == "edge-8" && err != nil {
			t.Errorf("its own things are there: %v", err)
		}
		if node == "edge-7" && (err == nil || !strings.HasSuffix(err.Error(), "holds nothing of node edge-8, but of edge-7: say --node-name edge-7")) {
			t.Errorf("another's are there: %v", err)
		}
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
