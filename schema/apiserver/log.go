package apiserver

import (
	"context"
	"log/slog"
	"slices"
)

// quiet is a log for the libraries that says at debug level what they call
// errors and is none: that a client hung up.
type quiet struct{ slog.Handler }

// hungUp are the messages that tell of it, in k8s.io/apimachinery's streams.
var hungUp = []string{"Error on socket receive", "Error proxying data from client to backend", "Error proxying data from backend to client"}

// Handle implements slog.Handler.
func (q quiet) Handle(ctx context.Context, record slog.Record) error {
	if slices.Contains(hungUp, record.Message) {
		record.Level = slog.LevelDebug
		if !q.Enabled(ctx, record.Level) {
			return nil
		}
	}
	return q.Handler.Handle(ctx, record)
}

// WithAttrs implements slog.Handler.
func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }

// WithGroup implements slog.Handler.
func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }
