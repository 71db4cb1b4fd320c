package endpoints

import (
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/schema"
)

// index finds the services that select a pod, and the pods that a service
// selects, without looking at all of them: a service is filed under one label
// of its selector, a pod under all of its labels. It lags behind the mirror,
// never behind the keys that its changes make dirty. It is safe for concurrent
// use.
type index struct {
	mu        sync.Mutex
	selectors map[schema.Key]map[string]string
	services  map[label]map[schema.Key]bool
	pods      map[label]map[schema.Key]bool
	seen      map[schema.Key]podView
}

type label struct{ namespace, key, value string }

// podView is all of a pod that its endpoint is made of.
type podView struct {
	labels map[string]string // shared with the mirror
	facts
}

type facts struct {
	uid, ip, node, hostname, subdomain string
	ready, ending, belongs             bool
}

func newIndex() *index {
	return &index{
		selectors: map[schema.Key]map[string]string{}, services: map[label]map[schema.Key]bool{},
		pods: map[label]map[schema.Key]bool{}, seen: map[schema.Key]podView{},
	}
}

func viewOf(pod *corev1.Pod) podView {
	return podView{labels: pod.Labels, facts: facts{
		uid: string(pod.UID), ip: pod.Status.PodIP, node: pod.Spec.NodeName, hostname: pod.Spec.Hostname, subdomain: pod.Spec.Subdomain,
		ready: isReady(pod), ending: pod.DeletionTimestamp != nil,
		belongs: belongs(&corev1.Service{ObjectMeta: pod.ObjectMeta}, pod),
	}}
}

// filedUnder is the label of a selector that its service is filed under: the
// smallest, for no reason but that it is always the same.
func filedUnder(namespace string, selector map[string]string) label {
	first := ""
	for k := range selector {
		if first == "" || k < first {
			first = k
		}
	}
	return label{namespace, first, selector[first]}
}

// setService takes in a service; a nil selector selects nothing.
func (x *index) setService(key schema.Key, selector map[string]string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if old := x.selectors[key]; len(old) > 0 {
		drop(x.services, filedUnder(key.Namespace, old), key)
		delete(x.selectors, key)
	}
	if len(selector) > 0 {
		x.selectors[key] = selector
		file(x.services, filedUnder(key.Namespace, selector), key)
	}
}

// setPod takes in a pod, nil if it is gone, and returns the services whose
// endpoints the difference alters.
func (x *index) setPod(key schema.Key, pod *corev1.Pod) []schema.Key {
	x.mu.Lock()
	defer x.mu.Unlock()
	before, known := x.seen[key]
	var now podView
	if pod != nil {
		now = viewOf(pod)
	}
	if known && pod != nil && before.facts == now.facts && maps.Equal(before.labels, now.labels) {
		return nil
	}
	for k, v := range before.labels {
		drop(x.pods, label{key.Namespace, k, v}, key)
	}
	delete(x.seen, key)
	if pod != nil {
		x.seen[key] = now
		for k, v := range now.labels {
			file(x.pods, label{key.Namespace, k, v}, key)
		}
	}
	affected := map[schema.Key]bool{}
	x.selectingLocked(key.Namespace, before.labels, affected)
	x.selectingLocked(key.Namespace, now.labels, affected)
	return keysOf(affected)
}

// all returns all services that select pods.
func (x *index) all() []schema.Key {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Collect(maps.Keys(x.selectors))
}

// selecting returns the services that select a pod as it was last seen.
func (x *index) selecting(pod schema.Key) []schema.Key {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := map[schema.Key]bool{}
	x.selectingLocked(pod.Namespace, x.seen[pod].labels, out)
	return keysOf(out)
}

func (x *index) selectingLocked(namespace string, labels map[string]string, out map[schema.Key]bool) {
	for k, v := range labels {
		for svc := range x.services[label{namespace, k, v}] {
			if contains(labels, x.selectors[svc]) {
				out[svc] = true
			}
		}
	}
}

// selected returns the pods that carry the rarest label of a selector: all
// that it selects, and some more.
func (x *index) selected(namespace string, selector map[string]string) []schema.Key {
	x.mu.Lock()
	defer x.mu.Unlock()
	var rarest map[schema.Key]bool
	first := true
	for k, v := range selector {
		if have := x.pods[label{namespace, k, v}]; first || len(have) < len(rarest) {
			rarest, first = have, false
		}
	}
	return keysOf(rarest)
}

func contains(labels, selector map[string]string) bool {
	for k, v := range selector {
		if have, ok := labels[k]; !ok || have != v {
			return false
		}
	}
	return true
}

func keysOf(set map[schema.Key]bool) []schema.Key { return slices.Collect(maps.Keys(set)) }

func file(in map[label]map[schema.Key]bool, under label, key schema.Key) {
	if in[under] == nil {
		in[under] = map[schema.Key]bool{}
	}
	in[under][key] = true
}

func drop(from map[label]map[schema.Key]bool, under label, key schema.Key) {
	delete(from[under], key)
	if len(from[under]) == 0 {
		delete(from, under)
	}
}
