package command

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
)

// Monitor serves /metrics and /healthz on a loopback port.
type Monitor struct {
	Address  string
	Registry *prometheus.Registry
}

// AddFlags adds the flag of the address.
func (m *Monitor) AddFlags(cmd *cobra.Command, address string) {
	cmd.Flags().StringVar(&m.Address, "listen", address, "address of /metrics and /healthz; empty for none")
	m.Registry = prometheus.NewRegistry()
	m.Registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
}

// Run serves until ctx ends. healthy returns what is wrong, or nil. An address
// that is taken is an error at once.
func (m *Monitor) Run(ctx context.Context, logger *slog.Logger, healthy func() error) error {
	if m.Address == "" {
		<-ctx.Done()
		return nil
	}
	listener, err := net.Listen("tcp", m.Address)
	if err != nil {
		return fmt.Errorf("--listen %s: %w (another one is running, or choose another address)", m.Address, err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.Registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if err := healthy(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	logger.Debug("metrics", "address", listener.Addr().String())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("metrics server: %w", err)
	}
	return nil
}
