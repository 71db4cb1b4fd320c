package server

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// handler has the kubelet's paths, and one of our own to connect to a pod.
func (s *Server) handler() http.Handler {
	api := http.NewServeMux()
	api.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", s.serveLogs)
	for _, method := range []string{"GET ", "POST "} {
		for _, uid := range []string{"", "/{uid}"} {
			api.HandleFunc(method+"/exec/{namespace}/{pod}"+uid+"/{container}", s.serveExec)
			api.HandleFunc(method+"/attach/{namespace}/{pod}"+uid+"/{container}", s.serveAttach)
			api.HandleFunc(method+"/portForward/{namespace}/{pod}"+uid, s.servePorts)
		}
	}
	api.HandleFunc("POST /connect/{namespace}/{pod}/{port}", s.serveConnection)
	api.HandleFunc("GET /stats/summary", s.serveSummary)
	api.HandleFunc("GET /metrics/resource", s.serveResources)
	api.Handle("GET /metrics", promhttp.HandlerFor(s.cfg.Gatherer, promhttp.HandlerOpts{}))
	api.HandleFunc("GET /pods", s.servePods)

	all := http.NewServeMux()
	all.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) })
	all.Handle("/", s.guarded(api))
	return all
}

func (s *Server) servePods(w http.ResponseWriter, _ *http.Request) { s.writeJSON(w, s.cfg.Pods.List()) }

func (s *Server) serveSummary(w http.ResponseWriter, r *http.Request) {
	summary, err := s.cfg.Stats.Summary(r.Context())
	if err != nil {
		s.fail(w, err)
		return
	}
	if r.FormValue("only_cpu_and_memory") == "true" {
		summary = onlyCPUAndMemory(summary)
	}
	s.writeJSON(w, summary)
}

func onlyCPUAndMemory(full *statsapi.Summary) *statsapi.Summary {
	n := full.Node
	out := &statsapi.Summary{Node: statsapi.NodeStats{NodeName: n.NodeName, StartTime: n.StartTime, CPU: n.CPU, Memory: n.Memory}}
	for _, p := range full.Pods {
		few := statsapi.PodStats{PodRef: p.PodRef, StartTime: p.StartTime, CPU: p.CPU, Memory: p.Memory}
		for _, c := range p.Containers {
			few.Containers = append(few.Containers, statsapi.ContainerStats{Name: c.Name, StartTime: c.StartTime, CPU: c.CPU, Memory: c.Memory})
		}
		out.Pods = append(out.Pods, few)
	}
	return out
}

func (s *Server) serveResources(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	if err := s.cfg.Stats.WriteResourceMetrics(r.Context(), w); err != nil {
		s.fail(w, err)
	}
}

func (s *Server) writeJSON(w http.ResponseWriter, value any) {
	data, err := json.Marshal(value)
	if err != nil {
		s.fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(data)
}

// fail answers with an error about the server.
func (s *Server) fail(w http.ResponseWriter, err error) {
	s.cfg.Logger.Warn("request not answered", "error", err)
	http.Error(w, err.Error(), http.StatusInternalServerError)
}

// refuse answers with an error about what was asked for.
func refuse(w http.ResponseWriter, err error) {
	code := http.StatusBadRequest
	if errors.Is(err, ErrNotFound) {
		code = http.StatusNotFound
	}
	http.Error(w, err.Error(), code)
}
