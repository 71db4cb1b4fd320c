package probe

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestHTTP(t *testing.T) {
	var got *http.Request
	release := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) { got = r })
	mux.HandleFunc("/big", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, strings.Repeat("x", 1<<20)) })
	mux.HandleFunc("/broken", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no oil", http.StatusServiceUnavailable) })
	mux.HandleFunc("/here", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ok", http.StatusFound) })
	mux.HandleFunc("/bad-here", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/broken", http.StatusFound) })
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://elsewhere.invalid/", http.StatusFound)
	})
	mux.HandleFunc("/round", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/round", http.StatusFound) })
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) { <-release })
	plain, secure := httptest.NewServer(mux), httptest.NewTLSServer(mux)
	defer plain.Close()
	defer secure.Close()
	defer close(release)
	for name, test := range map[string]struct {
		url     string
		want    Result
		message string
	}{
		"well":                {plain.URL + "/ok", Success, ""},
		"tls is not verified": {secure.URL + "/ok", Success, ""},
		"big answer":          {plain.URL + "/big", Success, ""},
		"ill":                 {plain.URL + "/broken", Failure, "HTTP probe failed with statuscode: 503: no oil"},
		"redirect":            {plain.URL + "/here", Success, ""},
		"redirect to ill":     {plain.URL + "/bad-here", Failure, "503"},
		"redirect away":       {plain.URL + "/away", Success, ""},
		"redirect for ever":   {plain.URL + "/round", Failure, "too many redirects"},
		"slow":                {plain.URL + "/slow", Failure, "deadline exceeded"},
		"nobody there":        {"http://127.0.0.1:1/", Failure, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			timeout := time.Minute
			if name == "slow" {
				timeout = 50 * time.Millisecond
			}
			result, message := Run(t.Context(), Probe{HTTP: &HTTP{URL: test.url}, Timeout: timeout}, nil)
			if result != test.want || !strings.Contains(message, test.message) {
				t.Errorf("got %s %q", result, message)
			}
		})
	}
	for name, url := range map[string]string{
		"ill": plain.URL + "/broken", "big": plain.URL + "/big", "tls": secure.URL + "/broken",
		"no tls after all": strings.Replace(plain.URL, "http:", "https:", 1) + "/broken",
	} {
		if result, message := Run(t.Context(), Probe{HTTP: &HTTP{URL: url, Hook: true}, Timeout: time.Minute}, nil); result != Success {
			t.Errorf("hook, %s: %s %q", name, result, message)
		}
	}
	if result, _ := Run(t.Context(), Probe{HTTP: &HTTP{URL: "http://127.0.0.1:1/", Hook: true}, Timeout: time.Minute}, nil); result != Failure {
		t.Errorf("hook, nobody there: %s", result)
	}
	headers := http.Header{"Host": {"lamp.example"}, "X-Lamp": {"on"}}
	if result, message := Run(t.Context(), Probe{HTTP: &HTTP{URL: plain.URL + "/ok", Headers: headers}, Timeout: time.Minute}, nil); result != Success {
		t.Fatal(message)
	}
	if got.Host != "lamp.example" || got.Header.Get("X-Lamp") != "on" || !strings.HasPrefix(got.UserAgent(), "kube-probe/") || !got.Close {
		t.Errorf("request was %+v", got)
	}
}

func TestTCP(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if result, message := Run(t.Context(), Probe{TCP: address, Timeout: time.Minute}, nil); result != Success {
		t.Error(message)
	}
	_ = listener.Close()
	if result, message := Run(t.Context(), Probe{TCP: address, Timeout: time.Minute}, nil); result != Failure || !strings.Contains(message, "refused") {
		t.Errorf("got %s %q", result, message)
	}
}

func TestExec(t *testing.T) {
	answer := func(code int, output string, err error) ExecFunc {
		return func(context.Context, []string) (int, []byte, error) { return code, []byte(output), err }
	}
	hang := func(ctx context.Context, _ []string) (int, []byte, error) { <-ctx.Done(); return 0, nil, ctx.Err() }
	for name, test := range map[string]struct {
		exec    ExecFunc
		want    Result
		message string
	}{
		"well":         {answer(0, "fine", nil), Success, ""},
		"ill":          {answer(2, "no oil\n", nil), Failure, `command "check lamp" exited with code 2: no oil`},
		"not possible": {answer(0, "", errors.New("runtime does not answer")), Unknown, "runtime does not answer"},
		"hangs":        {hang, Failure, `command "check lamp" timed out after 10ms`},
	} {
		result, message := Run(t.Context(), Probe{Exec: []string{"check", "lamp"}, Timeout: 10 * time.Millisecond}, test.exec)
		if result != test.want || message != test.message {
			t.Errorf("%s: got %s %q", name, result, message)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if result, _ := Run(ctx, Probe{Exec: []string{"x"}}, hang); result != Unknown {
		t.Errorf("interrupted: %s", result)
	}
}

func TestCounter(t *testing.T) {
	start := time.Unix(1000, 0)
	for name, test := range map[string]struct {
		schedule Schedule
		initial  Result
		results  string // s, f or u, one a period
		want     string // the state after each; an upper case letter is a decision
	}{
		"readiness":        {Schedule{FailureThreshold: 2}, Failure, "sffsu", "SsFSs"},
		"liveness":         {Schedule{}, Success, "ffsfff", "sssssF"},
		"two successes":    {Schedule{SuccessThreshold: 2, FailureThreshold: 1}, Failure, "sfss", "fFfS"},
		"unknown is no":    {Schedule{FailureThreshold: 2}, Success, "fufsf", "ssFSs"},
		"failure repeated": {Schedule{FailureThreshold: 2}, Success, "ffff", "sFfF"},
	} {
		c := NewCounter(test.schedule, start, test.initial)
		var got strings.Builder
		for i, letter := range test.results {
			result := map[rune]Result{'s': Success, 'f': Failure, 'u': Unknown}[letter]
			decided := c.Observe(start.Add(time.Duration(i)*time.Second), result)
			state := string(c.State())[:1]
			if decided {
				state = strings.ToUpper(state)
			}
			got.WriteString(state)
		}
		if diff := cmp.Diff(test.want, got.String()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestNext(t *testing.T) {
	start := time.Unix(1000, 0)
	c := NewCounter(Schedule{InitialDelay: 5 * time.Second, Period: 2 * time.Second}, start, Failure)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	steps := []time.Time{c.Next(at(0)), c.Next(at(7))}
	c.Observe(at(7), Success)
	steps = append(steps, c.Next(at(7)), c.Next(at(60)))
	if diff := cmp.Diff([]time.Time{at(5), at(7), at(9), at(60)}, steps); diff != "" {
		t.Error(diff)
	}
}

func TestResolve(t *testing.T) {
	container := &corev1.Container{Name: "main", Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 8080}}}
	get := func(g corev1.HTTPGetAction) corev1.Probe {
		return corev1.Probe{TimeoutSeconds: 2, ProbeHandler: corev1.ProbeHandler{HTTPGet: &g}}
	}
	for name, test := range map[string]struct {
		probe corev1.Probe
		want  Probe
		err   string
	}{
		"by name": {
			get(corev1.HTTPGetAction{Path: "/ok?a=b", Port: intstr.FromString("web"), HTTPHeaders: []corev1.HTTPHeader{{Name: "a", Value: "1"}}}),
			Probe{Timeout: 2 * time.Second, HTTP: &HTTP{URL: "http://10.0.0.1:8080/ok?a=b", Headers: http.Header{"A": {"1"}}}},
			"",
		},
		"by number": {
			get(corev1.HTTPGetAction{Port: intstr.FromInt32(81), Scheme: "HTTPS", Host: "::1"}),
			Probe{Timeout: 2 * time.Second, HTTP: &HTTP{URL: "https://[::1]:81/", Headers: http.Header{}}},
			"",
		},
		"no such port": {get(corev1.HTTPGetAction{Port: intstr.FromString("none")}), Probe{}, `probe of container main: it has no port "none"`},
		"tcp": {
			corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("web")}}},
			Probe{TCP: "10.0.0.1:8080"},
			"",
		},
		"nothing": {corev1.Probe{}, Probe{}, "probe of container main: it is neither httpGet, tcpSocket, grpc nor exec"},
	} {
		got, err := Resolve(&test.probe, container, "10.0.0.1")
		if err == nil && test.err != "" || err != nil && err.Error() != test.err {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
