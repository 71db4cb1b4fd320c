package probe

import (
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

func serveGRPC(t *testing.T, register func(*grpc.Server)) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	register(server)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	return listener.Addr().String()
}

// TestGRPC asks servers of gRPC's own.
func TestGRPC(t *testing.T) {
	healthy := serveGRPC(t, func(s *grpc.Server) {
		h := health.NewServer()
		h.SetServingStatus("ill", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
		h.SetServingStatus("dim", grpc_health_v1.HealthCheckResponse_UNKNOWN)
		grpc_health_v1.RegisterHealthServer(s, h)
	})
	other := serveGRPC(t, func(*grpc.Server) {})
	web := httptest.NewServer(nil)
	defer web.Close()
	mute, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	for name, test := range map[string]struct {
		probe GRPC
		want  Result
		says  string
	}{
		"well":          {GRPC{healthy, ""}, Success, ""},
		"ill":           {GRPC{healthy, "ill"}, Failure, "NOT_SERVING"},
		"unknown state": {GRPC{healthy, "dim"}, Failure, `"UNKNOWN"`},
		"no such":       {GRPC{healthy, "none"}, Failure, "status 5: unknown service"},
		"no health":     {GRPC{other, ""}, Failure, "does not implement the grpc health protocol"},
		"no gRPC":       {GRPC{strings.TrimPrefix(web.URL, "http://"), ""}, Failure, "error"},
		"mute":          {GRPC{mute.Addr().String(), ""}, Failure, "timeout"},
		"nobody there":  {GRPC{"127.0.0.1:1", ""}, Failure, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			timeout := time.Minute
			if name == "mute" {
				timeout = 500 * time.Millisecond
			}
			got, message := Run(t.Context(), Probe{GRPC: &test.probe, Timeout: timeout}, nil)
			if got != test.want || !strings.Contains(message, test.says) {
				t.Errorf("got %s %q", got, message)
			}
		})
	}
}

func TestHealthAnswer(t *testing.T) {
	for in, want := range map[string]uint64{"\x00\x00\x00\x00\x00": 0, "\x00\x00\x00\x00\x02\x08\x01": 1} {
		if got, err := healthAnswer([]byte(in)); got != want || err != nil {
			t.Errorf("%q: got %d, %v", in, got, err)
		}
	}
	for _, bad := range []string{"", "\x01\x00\x00\x00\x00", "\x00\x00\x00\x00\x09\x08\x01", "\x00\x00\x00\x00\x01\x0a", "\x00\x00\x00\x00\x01\x08"} {
		if _, err := healthAnswer([]byte(bad)); err == nil {
			t.Errorf("%q is taken for an answer", bad)
		}
	}
}

func BenchmarkGRPC(b *testing.B) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	defer func() { server.Stop(); <-done }()
	for b.Loop() {
		if got, message := Run(b.Context(), Probe{GRPC: &GRPC{Address: listener.Addr().String()}}, nil); got != Success {
			b.Fatal(message)
		}
	}
}
