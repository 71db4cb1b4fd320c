package apiserver

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/util/sets"
	genericapiserver "k8s.io/apiserver/pkg/server"
	genericfilters "k8s.io/apiserver/pkg/server/filters"
	"k8s.io/apiserver/pkg/server/healthz"
	restclient "k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/evenkeel/evenkeel/schema/apiserver/feed"
	"github.com/evenkeel/evenkeel/schema/apiserver/scheme"
)

// Server is the API server of a process.
type Server struct {
	cfg      Config
	hub      *feed.Hub
	generic  *genericapiserver.GenericAPIServer
	prepared func(context.Context) error // runs generic
	long     longRequests
}

// shutdownTime is how long requests that are being answered may take when the
// server ends.
const shutdownTime = 5 * time.Second

// logOnce turns klog, of which there is one in a process, to our log.
var logOnce sync.Once

// New makes a server; Run serves.
func New(cfg Config) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	logOnce.Do(func() { klog.SetSlogLogger(slog.New(quiet{cfg.Logger.With("component", "apiserver").Handler()})) })
	s := &Server{cfg: cfg}
	s.hub = feed.New(feed.Config{Registries: cfg.Registries, Mirror: cfg.Mirror, Unmirrored: cfg.Unmirrored, Logger: cfg.Logger})
	config := s.genericConfig()
	generic, err := config.Complete(nil).New("evenkeel", genericapiserver.NewEmptyDelegate())
	if err != nil {
		return nil, fmt.Errorf("make the api server: %w", err)
	}
	s.generic = generic
	generic.ShutdownTimeout = shutdownTime
	if err := s.install(config); err != nil {
		return nil, fmt.Errorf("install the api: %w", err)
	}
	prepared := generic.PrepareRun()
	s.prepared = prepared.RunWithContext
	return s, nil
}

// Handler serves what the server does, without its listeners; Run has to run.
func (s *Server) Handler() http.Handler { return s.generic.Handler }

// Run serves until ctx ends, and returns when every request is answered or cut
// off.
func (s *Server) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.hub.Run(ctx) })
	g.Go(func() error { return s.prepared(ctx) })
	g.Go(func() error {
		<-ctx.Done()
		s.long.end()
		return nil
	})
	return g.Wait()
}

// genericConfig is what k8s.io/apiserver is to do.
func (s *Server) genericConfig() *genericapiserver.Config {
	version := versionOf(s.cfg.Version)
	c := genericapiserver.NewConfig(scheme.Codecs)
	c.EffectiveVersion = version
	c.LoopbackClientConfig = &restclient.Config{} // nothing in here calls itself
	c.Authentication = genericapiserver.AuthenticationInfo{Authenticator: s.cfg.Authenticator, APIAudiences: s.cfg.Audiences}
	c.Authorization = genericapiserver.AuthorizationInfo{Authorizer: s.cfg.Authorizer}
	c.AdmissionControl = s.cfg.Admission
	c.AuditBackend, c.AuditPolicyRuleEvaluator = s.cfg.Audit, s.cfg.AuditPolicy
	c.EnableProfiling = false
	c.StorageObjectCountTracker = nil // belongs to priority and fairness
	c.LongRunningFunc = genericfilters.BasicLongRunningRequestCheck(
		sets.NewString("watch", "proxy"), sets.NewString("attach", "exec", "proxy", "log", "portforward"))
	c.BuildHandlerChainFunc = func(handler http.Handler, c *genericapiserver.Config) http.Handler {
		return genericapiserver.DefaultBuildHandlerChain(s.long.filter(handler, c.LongRunningFunc), c)
	}
	c.ReadyzChecks = append(c.ReadyzChecks, healthz.NamedCheck("watches", s.ready))
	c.ExternalAddress = "localhost:6443"
	if len(s.cfg.Listeners) > 0 {
		c.ExternalAddress = s.cfg.Listeners[0].Addr().String()
		c.SecureServing = &genericapiserver.SecureServingInfo{
			Listener: merge(s.cfg.Listeners), Cert: s.cfg.Certificate, ClientCA: s.cfg.ClientCA,
		}
	}
	return c
}

// ready fails until lists and watches are answered.
func (s *Server) ready(*http.Request) error {
	select {
	case <-s.hub.Ready():
		return nil
	default:
		return fmt.Errorf("the mirror has not listed the store yet")
	}
}
