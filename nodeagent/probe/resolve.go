package probe

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Resolve turns a container's probe into an attempt: ports by name are looked
// up in the container, and the host is the pod unless the probe names one. Pure.
func Resolve(p *corev1.Probe, container *corev1.Container, podIP string) (Probe, error) {
	resolved := Probe{Timeout: time.Duration(p.TimeoutSeconds) * time.Second}
	switch {
	case p.HTTPGet != nil:
		target, err := httpURL(p.HTTPGet, container, podIP)
		if err != nil {
			return Probe{}, err
		}
		resolved.HTTP = &HTTP{URL: target, Headers: http.Header{}}
		for _, header := range p.HTTPGet.HTTPHeaders {
			resolved.HTTP.Headers.Add(header.Name, header.Value)
		}
	case p.TCPSocket != nil:
		address, err := hostPort(p.TCPSocket.Host, p.TCPSocket.Port, container, podIP)
		if err != nil {
			return Probe{}, err
		}
		resolved.TCP = address
	case p.GRPC != nil:
		resolved.GRPC = &GRPC{Address: net.JoinHostPort(podIP, strconv.Itoa(int(p.GRPC.Port)))}
		if p.GRPC.Service != nil {
			resolved.GRPC.Service = *p.GRPC.Service
		}
	case p.Exec != nil:
		resolved.Exec = p.Exec.Command
	default:
		return Probe{}, fmt.Errorf("probe of container %s: it is neither httpGet, tcpSocket, grpc nor exec", container.Name)
	}
	return resolved, nil
}

func httpURL(get *corev1.HTTPGetAction, container *corev1.Container, podIP string) (string, error) {
	address, err := hostPort(get.Host, get.Port, container, podIP)
	if err != nil {
		return "", err
	}
	scheme := "http"
	if get.Scheme != "" {
		scheme = strings.ToLower(string(get.Scheme))
	}
	target, err := url.Parse(get.Path)
	if err != nil { // the kubelet sends such a path as it stands
		target = &url.URL{Path: get.Path}
	}
	target.Scheme, target.Host = scheme, address
	if !strings.HasPrefix(target.Path, "/") {
		target.Path = "/" + target.Path
	}
	return target.String(), nil
}

func hostPort(host string, port intstr.IntOrString, container *corev1.Container, podIP string) (string, error) {
	if host == "" {
		host = podIP
	}
	number := port.IntValue()
	if port.Type == intstr.String {
		for _, declared := range container.Ports {
			if declared.Name == port.StrVal {
				number = int(declared.ContainerPort)
			}
		}
	}
	if number < 1 || number > 65535 {
		return "", fmt.Errorf("probe of container %s: it has no port %q", container.Name, port.String())
	}
	return net.JoinHostPort(host, strconv.Itoa(number)), nil
}

// ScheduleOf is when a probe is tried and what counts. Pure.
func ScheduleOf(p *corev1.Probe) Schedule {
	return Schedule{
		InitialDelay:     time.Duration(p.InitialDelaySeconds) * time.Second,
		Period:           time.Duration(p.PeriodSeconds) * time.Second,
		SuccessThreshold: int(p.SuccessThreshold), FailureThreshold: int(p.FailureThreshold),
	}
}
