package node

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	genericrest "k8s.io/apiserver/pkg/registry/generic/rest"
	"k8s.io/apiserver/pkg/registry/rest"
)

// logs is pods/log.
type logs struct{ *Config }

var (
	_ rest.GetterWithOptions = logs{}
	_ rest.StorageMetadata   = logs{}
)

// NewLogs returns the storage of pods/log.
func NewLogs(cfg *Config) rest.Storage { return logs{cfg} }

// New implements rest.Storage.
func (logs) New() runtime.Object { return &corev1.Pod{} }

// Destroy implements rest.Storage.
func (logs) Destroy() {}

// ProducesMIMETypes implements rest.StorageMetadata.
func (logs) ProducesMIMETypes(string) []string { return []string{"text/plain"} }

// ProducesObject implements rest.StorageMetadata.
func (logs) ProducesObject(string) any { return "" }

// OverrideMetricsVerb counts a log that is read as the stream that it is.
func (logs) OverrideMetricsVerb(verb string) string {
	if verb == "GET" {
		return "CONNECT"
	}
	return verb
}

// NewGetOptions implements rest.GetterWithOptions.
func (logs) NewGetOptions() (runtime.Object, bool, string) { return &corev1.PodLogOptions{}, false, "" }

// Get implements rest.GetterWithOptions: what it returns is streamed from the
// node. A pod that has none has no log.
func (l logs) Get(ctx context.Context, name string, options runtime.Object) (runtime.Object, error) {
	opts, ok := options.(*corev1.PodLogOptions)
	if !ok {
		return nil, fmt.Errorf("options of a log: %T", options)
	}
	if errs := checkLogOptions(opts); len(errs) > 0 {
		return nil, apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("PodLogOptions").GroupKind(), name, errs)
	}
	pod, err := l.pod(ctx, name)
	if err != nil {
		return nil, err
	}
	container, err := containerOf(pod, opts.Container)
	if err != nil {
		return nil, err
	}
	if pod.Spec.NodeName == "" {
		return &genericrest.LocationStreamer{}, nil
	}
	base, transport, err := l.reach(ctx, pod.Spec.NodeName)
	if err != nil {
		return nil, err
	}
	return &logStream{&genericrest.LocationStreamer{
		Location:        at(base, "/containerLogs/"+pod.Namespace+"/"+pod.Name+"/"+container, logQuery(opts)),
		Transport:       transport,
		ContentType:     "text/plain",
		Flush:           opts.Follow,
		ResponseChecker: genericrest.NewGenericHttpResponseChecker(corev1.Resource("pods/log"), name),
		RedirectChecker: genericrest.PreventRedirects,
	}}, nil
}

// logStream is a log on its way. Over a WebSocket the library loses what is read
// together with the end, so that the end comes by itself here.
type logStream struct{ *genericrest.LocationStreamer }

// InputStream implements rest.ResourceStreamer.
func (s *logStream) InputStream(ctx context.Context, apiVersion, accept string) (io.ReadCloser, bool, string, error) {
	body, flush, contentType, err := s.LocationStreamer.InputStream(ctx, apiVersion, accept)
	if body != nil {
		body = endApart{body}
	}
	return body, flush, contentType, err
}

type endApart struct{ io.ReadCloser }

func (r endApart) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if n > 0 && err == io.EOF {
		return n, nil // it is at its end the next time too
	}
	return n, err
}

// checkLogOptions is ValidatePodLogOptions of k8s.io/kubernetes for the
// versioned type.
func checkLogOptions(opts *corev1.PodLogOptions) field.ErrorList {
	var errs field.ErrorList
	if opts.TailLines != nil && *opts.TailLines < 0 {
		errs = append(errs, field.Invalid(field.NewPath("tailLines"), *opts.TailLines, "must be greater than or equal to 0"))
	}
	if opts.LimitBytes != nil && *opts.LimitBytes < 1 {
		errs = append(errs, field.Invalid(field.NewPath("limitBytes"), *opts.LimitBytes, "must be greater than 0"))
	}
	switch {
	case opts.SinceSeconds != nil && opts.SinceTime != nil:
		errs = append(errs, field.Forbidden(field.NewPath(""), "at most one of `sinceTime` or `sinceSeconds` may be specified"))
	case opts.SinceSeconds != nil && *opts.SinceSeconds < 1:
		errs = append(errs, field.Invalid(field.NewPath("sinceSeconds"), *opts.SinceSeconds, "must be greater than 0"))
	}
	if s := opts.Stream; s != nil {
		switch *s {
		case corev1.LogStreamAll:
		case corev1.LogStreamStdout, corev1.LogStreamStderr:
			if opts.TailLines != nil {
				errs = append(errs, field.Forbidden(field.NewPath(""), "`tailLines` and specific `stream` are mutually exclusive for now"))
			}
		default:
			errs = append(errs, field.NotSupported(field.NewPath("stream"), *s, []string{corev1.LogStreamAll, corev1.LogStreamStdout, corev1.LogStreamStderr}))
		}
	}
	return errs
}

func logQuery(opts *corev1.PodLogOptions) url.Values {
	q := url.Values{}
	for name, set := range map[string]bool{"follow": opts.Follow, "previous": opts.Previous, "timestamps": opts.Timestamps} {
		if set {
			q.Set(name, "true")
		}
	}
	for name, n := range map[string]*int64{"sinceSeconds": opts.SinceSeconds, "tailLines": opts.TailLines, "limitBytes": opts.LimitBytes} {
		if n != nil {
			q.Set(name, strconv.FormatInt(*n, 10))
		}
	}
	if opts.SinceTime != nil {
		q.Set("sinceTime", opts.SinceTime.Format(time.RFC3339))
	}
	if opts.Stream != nil {
		q.Set("stream", *opts.Stream)
	}
	return q
}
