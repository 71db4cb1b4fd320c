package apiserver

import (
	"net/http"
	"sync"

	"k8s.io/apiserver/pkg/server/mux"
	"k8s.io/apiserver/pkg/server/routes"
	"k8s.io/kube-openapi/pkg/common"
)

// describe serves the OpenAPI descriptions of what is installed. They are made
// when somebody first asks: they are a third of what the server keeps, and more
// than half of the time that it takes to start.
func (s *Server) describe(v2 *common.Config, v3 *common.OpenAPIV3Config) {
	container, to := s.generic.Handler.GoRestfulContainer, s.generic.Handler.NonGoRestfulMux
	old := lazy(func(m *mux.PathRecorderMux) { routes.OpenAPI{Config: v2}.InstallV2(container, m) })
	to.Handle("/openapi/v2", old)
	current := lazy(func(m *mux.PathRecorderMux) { routes.OpenAPI{V3Config: v3}.InstallV3(container, m) })
	to.Handle("/openapi/v3", current)
	to.HandlePrefix("/openapi/v3/", current)
}

// lazy is a handler that is made by the first request.
func lazy(install func(*mux.PathRecorderMux)) http.Handler {
	made := sync.OnceValue(func() http.Handler {
		m := mux.NewPathRecorderMux("openapi")
		install(m)
		return m
	})
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { made().ServeHTTP(w, req) })
}
