package node

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/httpstream/wsstream"
	"k8s.io/apimachinery/pkg/util/proxy"
	"k8s.io/apiserver/pkg/registry/rest"
	translator "k8s.io/apiserver/pkg/util/proxy"
)

// Streams are carried to the node as they come: SPDY straight on, WebSocket
// (v5 of the remote command protocol, v2 of port forwarding) translated, so
// that the agent has to speak one of the two.

// stream is a subresource of pods that is a stream to a container.
type stream struct {
	*Config
	options func() runtime.Object
	// path is that of the stream at the agent, and its query.
	path func(pod *corev1.Pod, options runtime.Object) (string, url.Values, error)
	// translate is for clients that speak WebSocket.
	translate func(location *url.URL, transport http.RoundTripper, options runtime.Object, plain http.Handler) http.Handler
}

var _ rest.Connecter = &stream{}

// NewExec returns the storage of pods/exec.
func NewExec(cfg *Config) rest.Storage {
	return &stream{Config: cfg, options: func() runtime.Object { return &corev1.PodExecOptions{} }, path: execPath, translate: translateCommand}
}

// NewAttach returns the storage of pods/attach.
func NewAttach(cfg *Config) rest.Storage {
	return &stream{Config: cfg, options: func() runtime.Object { return &corev1.PodAttachOptions{} }, path: attachPath, translate: translateCommand}
}

// NewPortForward returns the storage of pods/portforward.
func NewPortForward(cfg *Config) rest.Storage {
	return &stream{Config: cfg, options: func() runtime.Object { return &corev1.PodPortForwardOptions{} }, path: portPath, translate: tunnel}
}

// New implements rest.Storage.
func (s *stream) New() runtime.Object { return s.options() }

// Destroy implements rest.Storage.
func (s *stream) Destroy() {}

// NewConnectOptions implements rest.Connecter.
func (s *stream) NewConnectOptions() (runtime.Object, bool, string) { return s.options(), false, "" }

// ConnectMethods implements rest.Connecter. A WebSocket begins with a GET.
func (s *stream) ConnectMethods() []string { return []string{http.MethodGet, http.MethodPost} }

// Connect implements rest.Connecter.
func (s *stream) Connect(ctx context.Context, name string, options runtime.Object, responder rest.Responder) (http.Handler, error) {
	if err := s.mayCreate(ctx); err != nil {
		return nil, err
	}
	pod, err := s.pod(ctx, name)
	if err != nil {
		return nil, err
	}
	path, query, err := s.path(pod, options)
	if err != nil {
		return nil, err
	}
	if pod.Spec.NodeName == "" {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("pod %s does not have a host assigned", name))
	}
	base, transport, err := s.reach(ctx, pod.Spec.NodeName)
	if err != nil {
		return nil, err
	}
	location := at(base, path, query)
	plain := proxy.NewUpgradeAwareHandler(location, transport, false, true, proxy.NewErrorResponder(responder))
	return s.translate(location, transport, options, plain), nil
}

func execPath(pod *corev1.Pod, options runtime.Object) (string, url.Values, error) {
	opts, ok := options.(*corev1.PodExecOptions)
	if !ok {
		return "", nil, fmt.Errorf("options of exec: %T", options)
	}
	container, err := containerOf(pod, opts.Container)
	query := commandQuery(opts.Stdin, opts.Stdout, opts.Stderr, opts.TTY)
	query["command"] = opts.Command
	return "/exec/" + pod.Namespace + "/" + pod.Name + "/" + container, query, err
}

func attachPath(pod *corev1.Pod, options runtime.Object) (string, url.Values, error) {
	opts, ok := options.(*corev1.PodAttachOptions)
	if !ok {
		return "", nil, fmt.Errorf("options of attach: %T", options)
	}
	container, err := containerOf(pod, opts.Container)
	return "/attach/" + pod.Namespace + "/" + pod.Name + "/" + container, commandQuery(opts.Stdin, opts.Stdout, opts.Stderr, opts.TTY), err
}

func commandQuery(stdin, stdout, stderr, tty bool) url.Values {
	q := url.Values{}
	for param, set := range map[string]bool{
		corev1.ExecStdinParam: stdin, corev1.ExecStdoutParam: stdout, corev1.ExecStderrParam: stderr, corev1.ExecTTYParam: tty,
	} {
		if set {
			q.Set(param, "1")
		}
	}
	return q
}

func portPath(pod *corev1.Pod, options runtime.Object) (string, url.Values, error) {
	opts, ok := options.(*corev1.PodPortForwardOptions)
	if !ok {
		return "", nil, fmt.Errorf("options of port forwarding: %T", options)
	}
	q := url.Values{}
	if len(opts.Ports) > 0 {
		ports := make([]string, len(opts.Ports))
		for i, p := range opts.Ports {
			ports[i] = strconv.Itoa(int(p))
		}
		q.Set(corev1.PortHeader, strings.Join(ports, ","))
	}
	return "/portForward/" + pod.Namespace + "/" + pod.Name, q, nil
}

// translateCommand turns v5 of the remote command protocol over WebSocket into
// what the agent speaks.
func translateCommand(location *url.URL, transport http.RoundTripper, options runtime.Object, plain http.Handler) http.Handler {
	var opts translator.Options
	switch o := options.(type) {
	case *corev1.PodExecOptions:
		opts = translator.Options{Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr, Tty: o.TTY}
	case *corev1.PodAttachOptions:
		opts = translator.Options{Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr, Tty: o.TTY}
	}
	return translator.NewTranslatingHandler(plain, translator.NewStreamTranslatorHandler(location, transport, 0, opts),
		wsstream.IsWebSocketRequestWithStreamCloseProtocol)
}

// tunnel carries SPDY through a WebSocket.
func tunnel(_ *url.URL, _ http.RoundTripper, _ runtime.Object, plain http.Handler) http.Handler {
	return translator.NewTranslatingHandler(plain, translator.NewTunnelingHandler(plain), wsstream.IsWebSocketRequestWithTunnelingProtocol)
}
