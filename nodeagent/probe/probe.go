// Package probe makes one attempt to see whether a container is well, and
// counts attempts. The node agent's pod workers call it; when to try, and what
// follows from the answer, is theirs.
package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Result of an attempt.
type Result string

// Unknown is an attempt that says nothing about the container: it could not
// be made.
const (
	Success Result = "success"
	Failure Result = "failure"
	Unknown Result = "unknown"
)

const (
	userAgent    = "kube-probe/1.37"
	hookAgent    = "kube-lifecycle/1.37"
	maxBody      = 10 << 10 // of an answer, read at most
	maxMessage   = 512      // of an answer, told at most
	maxRedirects = 10
)

// Probe is an attempt with everything resolved. Exactly one of HTTP, GRPC, TCP
// and Exec is set.
type Probe struct {
	HTTP *HTTP
	GRPC *GRPC
	TCP  string   // "address:port"
	Exec []string // the command
	// Timeout of one attempt. Default: one second.
	Timeout time.Duration
}

// HTTP is a GET request. The certificate of an https server is not verified.
type HTTP struct {
	URL     string
	Headers http.Header // "Host" replaces the host that is asked for
	// Hook says that it is a container's lifecycle hook: any answer will do,
	// and a server that does not speak https is asked again without, as the
	// kubelet does.
	Hook bool
}

// ExecFunc runs a command in the container, and kills it when ctx ends.
type ExecFunc func(ctx context.Context, command []string) (code int, output []byte, err error)

// Run makes one attempt, and says in the message why it did not succeed. It
// returns after the timeout at the latest, as far as exec does.
func Run(ctx context.Context, p Probe, exec ExecFunc) (Result, string) {
	if p.Timeout <= 0 {
		p.Timeout = time.Second
	}
	bounded, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	var result Result
	var message string
	switch {
	case p.HTTP != nil:
		result, message = runHTTP(bounded, p.HTTP)
	case p.GRPC != nil:
		result, message = runGRPC(bounded, p.GRPC)
	case p.TCP != "":
		result, message = runTCP(bounded, p.TCP)
	case len(p.Exec) > 0:
		result, message = runExec(bounded, p.Exec, p.Timeout, exec)
	default:
		return Unknown, "probe asks for nothing"
	}
	if ctx.Err() != nil && result != Success {
		return Unknown, "probe was interrupted"
	}
	return result, message
}

func runTCP(ctx context.Context, address string) (Result, string) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return Failure, err.Error()
	}
	_ = conn.Close()
	return Success, ""
}

func runExec(ctx context.Context, command []string, timeout time.Duration, exec ExecFunc) (Result, string) {
	code, output, err := exec(ctx, command)
	switch {
	case ctx.Err() != nil && err != nil:
		return Failure, fmt.Sprintf("command %q timed out after %v", strings.Join(command, " "), timeout)
	case err != nil:
		return Unknown, err.Error()
	case code != 0:
		return Failure, fmt.Sprintf("command %q exited with code %d: %s", strings.Join(command, " "), code, clip(output))
	}
	return Success, ""
}

func runHTTP(ctx context.Context, h *HTTP) (Result, string) {
	request, err := newRequest(ctx, h)
	if err != nil {
		return Unknown, err.Error()
	}
	transport := &http.Transport{
		DisableKeepAlives: true, Proxy: nil, DisableCompression: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // as the kubelet: it asks whether, not who
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: sameHost}
	response, err := client.Do(request)
	if h.Hook && errors.Is(err, http.ErrSchemeMismatch) {
		request.URL.Scheme = "http"
		request.Header.Del("Authorization")
		response, err = client.Do(request)
	}
	if err != nil {
		return Failure, trim(err).Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if h.Hook {
		return Success, ""
	}
	if err != nil {
		return Failure, err.Error()
	}
	if response.StatusCode < http.StatusOK || response.StatusCode >= http.StatusBadRequest {
		return Failure, fmt.Sprintf("HTTP probe failed with statuscode: %d: %s", response.StatusCode, clip(body))
	}
	return Success, ""
}

func newRequest(ctx context.Context, h *HTTP) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL, nil)
	if err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	for name, values := range h.Headers {
		request.Header[http.CanonicalHeaderKey(name)] = values
	}
	if host := request.Header.Get("Host"); host != "" {
		request.Host = host
	}
	request.Header.Del("Host")
	if _, set := request.Header["User-Agent"]; !set {
		request.Header.Set("User-Agent", map[bool]string{false: userAgent, true: hookAgent}[h.Hook])
	}
	if _, set := request.Header["Accept"]; !set {
		request.Header.Set("Accept", "*/*")
	}
	return request, nil
}

// sameHost follows redirects on the host that was asked; one that leads away
// counts as an answer, as the kubelet has it.
func sameHost(request *http.Request, via []*http.Request) error {
	if request.URL.Hostname() != via[0].URL.Hostname() {
		return http.ErrUseLastResponse
	}
	if len(via) >= maxRedirects {
		return errors.New("too many redirects")
	}
	return nil
}

// trim takes the request out of an error: who reads it knows the probe.
func trim(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

func clip(output []byte) string {
	text := strings.ToValidUTF8(strings.TrimSpace(string(output)), "?")
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "…"
	}
	return text
}
