// Command bench measures Evenkeel as its users see it, beside something run in
// the same minutes on the same machine, and prints medians and ratios.
//
// `make bench` runs it, as root. It starts the built programs on directories
// and names of its own and removes all it made. Nothing else calls it.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"
)

// Result is one line of the table.
type Result struct {
	Name   string    `json:"name"`
	Unit   string    `json:"unit"` // s, ms, MiB, %, ratio
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	Runs   []float64 `json:"runs"`
	Limit  float64   `json:"limit,omitempty"` // what it must not exceed
}

// Report is what is written as JSON.
type Report struct {
	When    time.Time `json:"when"`
	Machine string    `json:"machine"`
	Results []Result  `json:"results"`
}

func main() {
	bin := flag.String("bin", ".build/bin", "directory of the built programs")
	out := flag.String("o", "bench/results.json", "file for the results")
	runs := flag.Int("n", 5, "runs of each measurement")
	only := flag.String("only", "", "measure only this: pods, life, memory, api or plan, or cold or warm of that")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *bin, *out, *only, *runs); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin, out, only string, runs int) error {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return err
	}
	report := Report{When: time.Now().UTC(), Machine: fmt.Sprintf("%s/%s, %d CPUs, storage in %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), os.TempDir())}
	parts := []struct {
		name, group string
		measure     func(context.Context, string, int) ([]Result, error)
	}{{"cold", "plan", measureCold}, {"warm", "plan", measureWarm}, {"pods", "", measurePods}, {"life", "", measureLife}, {"agent", "", measureAgent}, {"memory", "", measureMemory}, {"api", "", measureAPI}}
	for _, part := range parts {
		if only != "" && only != part.name && only != part.group {
			continue
		}
		results, err := part.measure(ctx, bin, runs)
		if err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		report.Results = append(report.Results, results...)
	}
	if err := print(report); err != nil {
		return err
	}
	return save(report, out)
}

func print(r Report) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "%s\n", r.Machine)
	fmt.Fprint(w, "median\tmin\tmax\tunit\tlimit\t  \n")
	for _, m := range r.Results {
		limit := ""
		if m.Limit > 0 {
			limit = fmt.Sprintf("≤ %.4g", m.Limit)
			if m.Median > m.Limit {
				limit += " MISSED"
			}
		}
		fmt.Fprintf(w, "%.3f\t%.3f\t%.3f\t%s\t%s\t  %s\n", m.Median, m.Min, m.Max, m.Unit, limit, m.Name)
	}
	return w.Flush()
}

func save(r Report, out string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	return os.WriteFile(out, append(data, '\n'), 0o644)
}

// summary makes a result of runs.
func summary(name, unit string, limit float64, runs []float64) Result {
	sorted := slices.Sorted(slices.Values(runs))
	return Result{
		Name: name, Unit: unit, Limit: limit, Runs: runs,
		Median: sorted[len(sorted)/2], Min: sorted[0], Max: sorted[len(sorted)-1],
	}
}

// ratios divides run by run.
func ratios(a, b []float64) []float64 {
	out := make([]float64, len(a))
	for i := range a {
		out[i] = a[i] / b[i]
	}
	return out
}

func seconds(began time.Time) float64 { return time.Since(began).Seconds() }
