package nodeagent

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	pods   prometheus.Gauge
	exits  prometheus.Counter
	starts prometheus.Histogram
	pulls  prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		pods:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "evenkeel_nodeagent_pods", Help: "Pods that this agent looks after."}),
		exits:  prometheus.NewCounter(prometheus.CounterOpts{Name: "evenkeel_nodeagent_container_exits_total", Help: "Container exits that this agent saw."}),
		starts: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "evenkeel_nodeagent_container_start_seconds", Help: "Time the container runtime took to start a container.", Buckets: prometheus.ExponentialBuckets(0.01, 2, 12)}),
		pulls:  prometheus.NewHistogram(prometheus.HistogramOpts{Name: "evenkeel_nodeagent_image_pull_seconds", Help: "Time to pull an image.", Buckets: prometheus.ExponentialBuckets(0.1, 2, 12)}),
	}
	r.MustRegister(m.pods, m.exits, m.starts, m.pulls)
	return m
}
