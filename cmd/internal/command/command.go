// Package command is what the three programs have in common as programs:
// flags for logs and metrics, the version, signals and exit codes.
//
// Their main functions call it. It knows nothing of pods.
package command

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"
)

// Version is what --version prints; the build sets it.
var Version = "devel"

// ExitError is an error with the exit code that the process should have. An
// empty Err is not printed.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit %d", e.Code)
	}
	return e.Err.Error()
}

// Unwrap returns Err.
func (e *ExitError) Unwrap() error { return e.Err }

// Main runs a root command until SIGINT or SIGTERM and returns the process's
// exit code. A second signal ends the process at once.
func Main(root *cobra.Command) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	// Libraries that log by klog would write to stderr by themselves.
	klog.SetSlogLogger(slog.New(slog.DiscardHandler))
	root.Version = Version
	root.SilenceErrors, root.SilenceUsage = true, true
	err := root.ExecuteContext(ctx)
	var exit *ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		if exit.Err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", root.Name(), exit.Err)
		}
		return exit.Code
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", root.Name(), err)
	return 1
}

// Logging is the flags that say how logs are written.
type Logging struct {
	Format string
	Level  string
}

// AddFlags adds the flags; level is the default one.
func (l *Logging) AddFlags(cmd *cobra.Command, level string) {
	cmd.PersistentFlags().StringVar(&l.Format, "log-format", "text", "logs as text or json")
	cmd.PersistentFlags().StringVar(&l.Level, "log-level", level, "least level that is logged: debug, info, warn or error")
}

// Logger returns the logger that the flags ask for; it writes to stderr.
func (l *Logging) Logger() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		return nil, fmt.Errorf("--log-level %q: must be debug, info, warn or error", l.Level)
	}
	options := &slog.HandlerOptions{Level: level}
	switch l.Format {
	case "text":
		return slog.New(slog.NewTextHandler(os.Stderr, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, options)), nil
	}
	return nil, fmt.Errorf("--log-format %q: must be text or json", l.Format)
}
