package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/nodeagent"
	"github.com/evenkeel/evenkeel/schema"
)

// staticPods reads the node's own pods from files, directories and URLs. What
// cannot be read, or is not right, leaves the pods of its file as they were,
// also after a restart.
type staticPods struct {
	node    string
	memory  string // file that remembers the pods
	sources []manifests.Source
	loader  *manifests.Loader
	logger  *slog.Logger

	known remembered
	said  map[string]string // by source or file: the last trouble, so that it is said once
}

// remembered are encoded pods by source and file.
type remembered map[string]map[string][][]byte

func newStaticPods(node, memory string, places []string, logger *slog.Logger) (*staticPods, error) {
	s := &staticPods{node: node, memory: memory, loader: manifests.NewLoader(), logger: logger, said: map[string]string{}}
	for _, place := range places {
		source, err := staticSource(place, logger)
		if err != nil {
			return nil, fmt.Errorf("--static-pods: %w", err)
		}
		s.sources = append(s.sources, source)
	}
	return s, nil
}

// run sends all pods at first and whenever they change, until ctx ends.
func (s *staticPods) run(ctx context.Context, out chan<- []*corev1.Pod) error {
	s.recall()
	changed := make(chan struct{}, 1)
	var watchers sync.WaitGroup
	defer watchers.Wait()
	for _, source := range s.sources {
		watchers.Go(func() {
			err := source.Watch(ctx, func() {
				select {
				case changed <- struct{}{}:
				default:
				}
			})
			if err != nil && ctx.Err() == nil {
				s.logger.Error("static pods are no longer followed", "error", err)
			}
		})
	}
	for {
		s.readAll(ctx)
		select {
		case <-ctx.Done():
			return nil
		case out <- s.pods():
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// readAll takes in what the sources have now.
func (s *staticPods) readAll(ctx context.Context) {
	before, _ := json.Marshal(s.known)
	for _, source := range s.sources {
		snap, err := source.Snapshot(ctx)
		if err != nil {
			s.complain(source.Name(), err.Error(), "static pods not read, those known stay", "error", err)
			continue
		}
		s.complain(source.Name(), "", "")
		files := map[string][][]byte{}
		for _, file := range snap.Files {
			pods, ok := s.readFile(ctx, snap, file)
			if !ok {
				pods = s.known[source.Name()][file.Path]
			}
			files[file.Path] = pods
		}
		s.known[source.Name()] = files
	}
	if after, err := json.Marshal(s.known); err == nil && string(after) != string(before) {
		if err := writeFile(s.memory, after); err != nil {
			s.logger.Warn("static pods not remembered", "error", err)
		}
	}
}

// complain logs trouble with a source, or of a file, unless it is the same as
// before; "" is none.
func (s *staticPods) complain(about, trouble, message string, args ...any) {
	if trouble != "" && s.said[about] != trouble {
		s.logger.Error(message, args...)
	}
	s.said[about] = trouble
}

// readFile returns the pods of a file; false if there is anything wrong in it.
func (s *staticPods) readFile(ctx context.Context, snap manifests.Snapshot, file manifests.File) ([][]byte, bool) {
	about := snap.Source + "/" + file.Path
	snap.Files, snap.Tree = []manifests.File{file}, file.Hash
	sets, found := s.loader.Load(ctx, snap)
	if err := found.Err(); err != nil {
		s.complain(about, err.Error(), "static pods refused, those known of the file stay", "findings", err)
		return nil, false
	}
	var pods [][]byte
	for _, item := range sets[0].Items {
		data, err := s.static(item, snap)
		if err != nil {
			s.complain(about, err.Error(), "static pod refused, those known of the file stay", "file", item.Place.File, "line", item.Place.Line, "error", err)
			return nil, false
		}
		pods = append(pods, data)
	}
	s.complain(about, "", "")
	return pods, true
}

func (s *staticPods) static(item manifests.Item, snap manifests.Snapshot) ([]byte, error) {
	pod, ok := item.Object.(*corev1.Pod)
	if !ok {
		return nil, fmt.Errorf("%s: only pods can be static", item.Title)
	}
	if what := referred(pod); what != "" {
		return nil, fmt.Errorf("%s: a static pod cannot refer to %s: it runs without any control plane", item.Title, what)
	}
	kind := "file"
	if isURL(snap.Location) {
		kind = "http"
	}
	pod, err := nodeagent.StaticPod(pod, s.node, kind)
	if err != nil {
		return nil, err
	}
	return schema.Encode(pod)
}

// referred names an object that a pod needs from the control plane, or "".
func referred(pod *corev1.Pod) string {
	spec := &pod.Spec
	switch {
	case spec.ServiceAccountName != "":
		return "a service account"
	case len(spec.ImagePullSecrets) > 0:
		return "image pull secrets"
	}
	for _, v := range spec.Volumes {
		switch {
		case v.ConfigMap != nil:
			return "a config map"
		case v.Secret != nil:
			return "a secret"
		case v.PersistentVolumeClaim != nil:
			return "a persistent volume claim"
		case v.Projected != nil && slices.ContainsFunc(v.Projected.Sources, func(p corev1.VolumeProjection) bool { return p.DownwardAPI == nil }):
			return "a config map, secret or token"
		}
	}
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		if len(c.EnvFrom) > 0 {
			return "a config map or secret"
		}
		for _, e := range c.Env {
			if from := e.ValueFrom; from != nil && (from.ConfigMapKeyRef != nil || from.SecretKeyRef != nil) {
				return "a config map or secret"
			}
		}
	}
	return ""
}

// pods are all that are known; of two with the same name the first counts.
func (s *staticPods) pods() []*corev1.Pod {
	var pods []*corev1.Pod
	taken := map[schema.Key]bool{}
	for _, source := range s.sources {
		files := s.known[source.Name()]
		for _, file := range slices.Sorted(maps.Keys(files)) {
			for _, data := range files[file] {
				obj, err := schema.DecodeObject(data)
				pod, ok := obj.(*corev1.Pod)
				if err != nil || !ok {
					continue // of another version; it is read anew
				}
				key := schema.KeyOf(pod)
				if taken[key] {
					s.logger.Error("static pod left out: there is another of its name", "pod", key, "file", file)
					continue
				}
				taken[key] = true
				pods = append(pods, pod)
			}
		}
	}
	return pods
}

func (s *staticPods) recall() {
	s.known = remembered{}
	data, err := os.ReadFile(s.memory)
	if err == nil {
		err = json.Unmarshal(data, &s.known)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.logger.Warn("static pods of before not known", "error", err)
	}
	for name := range s.known {
		if !slices.ContainsFunc(s.sources, func(source manifests.Source) bool { return source.Name() == name }) {
			delete(s.known, name)
		}
	}
}

// writeFile puts a file in place of another, whole or not at all.
func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(path+".partial", data, 0o600); err != nil {
		return errors.Join(err, os.Remove(path+".partial"))
	}
	return os.Rename(path+".partial", path)
}
