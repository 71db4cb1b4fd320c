package proxy

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	duration  prometheus.Histogram
	syncs     *prometheus.CounterVec
	services  prometheus.Gauge
	endpoints prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "evenkeel_proxy_sync_duration_seconds", Help: "Time the backend took to put a ruleset in force.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9),
		}),
		syncs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "evenkeel_proxy_syncs_total", Help: "Rulesets handed to the backend, by result.",
		}, []string{"result"}),
		services: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "evenkeel_proxy_service_ports", Help: "Service ports in the last ruleset.",
		}),
		endpoints: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "evenkeel_proxy_endpoints", Help: "Endpoints in the last ruleset, counted once per service port.",
		}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.duration, m.syncs, m.services, m.endpoints} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) observe(rules Ruleset, took time.Duration, err error) {
	m.duration.Observe(took.Seconds())
	if err != nil {
		m.syncs.WithLabelValues("error").Inc()
		return
	}
	m.syncs.WithLabelValues("ok").Inc()
	m.services.Set(float64(len(rules.Services)))
	count := 0
	for _, s := range rules.Services {
		count += len(s.Endpoints)
	}
	m.endpoints.Set(float64(count))
}
