package scheduler

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	reg      prometheus.Registerer
	bindings prometheus.Counter
	refused  prometheus.Counter
	parked   prometheus.Gauge
	schedule prometheus.Histogram
	bind     prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	buckets := prometheus.ExponentialBuckets(0.0001, 4, 9)
	m := &metrics{
		reg: reg,
		bindings: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "evenkeel_scheduler_bindings_total", Help: "Pods that were bound to a node.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "evenkeel_scheduler_refused_bindings_total", Help: "Bindings refused by the store because the pod or the node had changed.",
		}),
		parked: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "evenkeel_scheduler_unschedulable_pods", Help: "Pods that fit nowhere now.",
		}),
		schedule: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "evenkeel_scheduler_schedule_duration_seconds", Help: "Time to choose nodes for one batch of pods.", Buckets: buckets,
		}),
		bind: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "evenkeel_scheduler_bind_duration_seconds", Help: "Time of one transaction of bindings.", Buckets: buckets,
		}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range m.all() {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.bindings, m.refused, m.parked, m.schedule, m.bind}
}

// unregister makes room for the metrics of this process's next term.
func (m *metrics) unregister() {
	if m.reg == nil {
		return
	}
	for _, c := range m.all() {
		m.reg.Unregister(c)
	}
}
