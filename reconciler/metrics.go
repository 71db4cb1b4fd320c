package reconciler

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	seconds prometheus.Histogram
	changes *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "evenkeel_reconciler_sync_seconds", Help: "Time of one comparison and apply.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 14)}),
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "evenkeel_reconciler_changes_total", Help: "Objects changed, by action."}, []string{"action"}),
	}
	r.MustRegister(m.seconds, m.changes)
	return m
}
