package probe

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
)

// GRPC asks a server for its health by gRPC's health checking protocol. A
// request is one message of one field over HTTP/2, which the standard library
// speaks: gRPC's own would cost a connection's goroutines for each probe.
type GRPC struct {
	Address string // "address:port"
	Service string // "" is the server as a whole
}

// The protocol's names and numbers
// (github.com/grpc/grpc/blob/master/doc/health-checking.md).
const (
	healthPath      = "/grpc.health.v1.Health/Check"
	serving         = 1
	statusOK        = "0"
	statusNoMethod  = "12" // UNIMPLEMENTED: the server has no health service
	maxHealthAnswer = 1 << 10
)

// servingNames are the answers that there can be.
var servingNames = []string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}

func runGRPC(ctx context.Context, g *GRPC) (Result, string) {
	target := url.URL{Scheme: "http", Host: g.Address, Path: healthPath}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(healthRequest(g.Service)))
	if err != nil {
		return Unknown, err.Error()
	}
	request.Header = http.Header{
		"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "User-Agent": {userAgent},
	}
	transport := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true, DialContext: new(net.Dialer).DialContext}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return Failure, fmt.Sprintf("timeout: no answer from %s in time", g.Address)
		}
		return Failure, fmt.Sprintf("error: %s: %v", g.Address, trim(err))
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxHealthAnswer))
	if err != nil {
		return Failure, err.Error()
	}
	return judgeHealth(response, body)
}

// judgeHealth reads an answer. The status stands in the trailers, or among the
// headers where there is nothing else.
func judgeHealth(response *http.Response, body []byte) (Result, string) {
	if response.StatusCode != http.StatusOK {
		return Failure, "error: not a gRPC server: HTTP status " + response.Status
	}
	from := response.Trailer
	if from.Get("Grpc-Status") == "" {
		from = response.Header
	}
	switch status := from.Get("Grpc-Status"); status {
	case statusOK:
	case statusNoMethod:
		return Failure, "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): " + from.Get("Grpc-Message")
	case "":
		return Failure, "error: not a gRPC server: it gives no status"
	default:
		return Failure, fmt.Sprintf("error: health rpc failed with status %s: %s", status, from.Get("Grpc-Message"))
	}
	state, err := healthAnswer(body)
	if err != nil {
		return Failure, "error: " + err.Error()
	}
	if state == serving {
		return Success, "service healthy"
	}
	name := strconv.FormatUint(state, 10)
	if state < uint64(len(servingNames)) {
		name = servingNames[state]
	}
	return Failure, "service unhealthy (responded with \"" + name + "\")"
}

// healthRequest is HealthCheckRequest{service} as gRPC frames it: not
// compressed, four bytes of length, and field 1, a string.
func healthRequest(service string) []byte {
	var message []byte
	if service != "" {
		message = binary.AppendUvarint([]byte{1<<3 | 2}, uint64(len(service)))
		message = append(message, service...)
	}
	frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	return append(frame, message...)
}

// healthAnswer is the status in HealthCheckResponse{status}: field 1, a
// number, which is left out if it is 0.
func healthAnswer(frame []byte) (status uint64, err error) {
	const header = 5
	bad := errors.New("the answer is no health of gRPC's")
	if len(frame) < header || frame[0] != 0 || int(binary.BigEndian.Uint32(frame[1:])) != len(frame)-header {
		return 0, bad
	}
	for message := frame[header:]; len(message) > 0; {
		tag, n := binary.Uvarint(message)
		if n <= 0 || tag&7 != 0 {
			return 0, bad
		}
		value, m := binary.Uvarint(message[n:])
		if m <= 0 {
			return 0, bad
		}
		if tag>>3 == 1 {
			status = value
		}
		message = message[n+m:]
	}
	return status, nil
}
