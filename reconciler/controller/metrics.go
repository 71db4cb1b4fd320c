package controller

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts what controllers do, by controller. A nil Metrics counts
// nothing.
type Metrics struct {
	reg      prometheus.Registerer
	total    *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

// NewMetrics registers the metrics of all controllers together; a nil
// registerer is none. Close ends them.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		reg: reg,
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "evenkeel_controller_reconciles_total", Help: "Keys reconciled, by controller and result.",
		}, []string{"controller", "result"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "evenkeel_controller_reconcile_duration_seconds", Help: "Time to reconcile one key, by controller.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9),
		}, []string{"controller"}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.total, m.duration} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Close unregisters the metrics, so that a later term can register its own.
func (m *Metrics) Close() {
	if m == nil || m.reg == nil {
		return
	}
	m.reg.Unregister(m.total)
	m.reg.Unregister(m.duration)
}

func (m *Metrics) observe(controller string, took time.Duration, err error) {
	if m == nil {
		return
	}
	m.duration.WithLabelValues(controller).Observe(took.Seconds())
	result := "ok"
	switch {
	case err == nil || errors.As(err, new(Later)):
	case IsStale(err):
		result = "stale"
	default:
		result = "error"
	}
	m.total.WithLabelValues(controller, result).Inc()
}
