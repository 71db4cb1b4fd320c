package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/evenkeel/evenkeel/schema"
)

// What the API is asked for.
const (
	apiGets     = 2000
	apiPods     = 5000
	apiLists    = 10
	apiWatchers = 500
	apiEvents   = 100
	apiClients  = 8
	apiWrites   = 2000
)

// measureAPI takes the CPU time of the server's process for what clients do,
// and how quickly they write, beside writes straight to the registries.
func measureAPI(ctx context.Context, bin string, runs int) ([]Result, error) {
	s, err := startServed(ctx, bin)
	if err != nil {
		return nil, err
	}
	results, err := s.load(ctx, runs)
	if err = errors.Join(err, s.close()); err != nil {
		return nil, err
	}
	memory, err := apiMemory(ctx, bin, runs)
	return append(results, memory...), err
}

func (s *served) load(ctx context.Context, runs int) ([]Result, error) {
	var get, watch, through, straight []float64
	if _, err := s.regs.Create(ctx, apiPod(0)); err != nil {
		return nil, err
	}
	for range runs {
		took, err := s.gets(ctx)
		if err != nil {
			return nil, fmt.Errorf("get: %w", err)
		}
		get = append(get, milliseconds(took))
		if took, err = s.watch(ctx); err != nil {
			return nil, fmt.Errorf("watch: %w", err)
		}
		watch = append(watch, milliseconds(took)*1000)
	}
	for range runs {
		rates, err := s.writes(ctx)
		if err != nil {
			return nil, fmt.Errorf("write: %w", err)
		}
		through, straight = append(through, rates[0]), append(straight, rates[1])
	}
	lists, err := s.lists(ctx, runs)
	return append([]Result{
		summary("API: get a pod, 8 clients at once, CPU", "ms", 0.6, get),
		summary("API: an event to 500 watchers, CPU for each", "µs", 25, watch),
		summary("API: config maps made by 8 clients", "1/s", 0, through),
		summary("config maps made by 8 writers straight in the registries", "1/s", 0, straight),
		summary("API: writes, of those straight to the registries", "ratio", 0, ratios(through, straight)),
	}, lists...), err
}

// gets reads a pod by several clients, which never wait.
func (s *served) gets(ctx context.Context) (time.Duration, error) {
	took, err := s.cost(ctx, 1, func() error {
		return atOnce(func(int) error {
			for range apiGets / apiClients {
				if _, err := s.fetch(ctx, "/api/v1/namespaces/default/pods/p0", runtime.ContentTypeJSON); err != nil {
					return err
				}
			}
			return nil
		})
	})
	return took / apiGets, err
}

// atOnce does something for each client at the same time.
func atOnce(do func(client int) error) error {
	var wg sync.WaitGroup
	errs := make([]error, apiClients)
	for client := range apiClients {
		wg.Go(func() { errs[client] = do(client) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func apiPod(i int) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "p" + strconv.Itoa(i), Namespace: "default",
			Labels: map[string]string{"app": "web", "team": "shop", "index": strconv.Itoa(i)},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "c", Image: "example.org/c:1", Env: []corev1.EnvVar{{Name: "A", Value: "b"}, {Name: "C", Value: "d"}},
		}}},
	}
}

// lists reads 5,000 pods at once, beside the time that it takes to write them
// as JSON and no more.
func (s *served) lists(ctx context.Context, runs int) ([]Result, error) {
	for i := 1; i < apiPods; i++ {
		if _, err := s.regs.Create(ctx, apiPod(i)); err != nil {
			return nil, err
		}
	}
	var inJSON, inProtobuf, bare []float64
	for range runs {
		for accept, into := range map[string]*[]float64{runtime.ContentTypeJSON: &inJSON, runtime.ContentTypeProtobuf: &inProtobuf} {
			took, err := s.cost(ctx, apiLists, func() error {
				_, err := s.fetch(ctx, "/api/v1/pods", accept)
				return err
			})
			if err != nil {
				return nil, fmt.Errorf("list as %s: %w", accept, err)
			}
			*into = append(*into, milliseconds(took))
		}
		took, err := s.encode(ctx)
		if err != nil {
			return nil, err
		}
		bare = append(bare, milliseconds(took))
	}
	return []Result{
		summary("API: list 5,000 pods as JSON, CPU", "ms", 110, inJSON),
		summary("API: list 5,000 pods as protobuf, CPU", "ms", 60, inProtobuf),
		summary("encoding/json of the same 5,000 pods", "ms", 0, bare),
		summary("API: list as JSON, of encoding/json", "ratio", 0, ratios(inJSON, bare)),
	}, nil
}

// encode times the standard library on the pods that the API lists.
func (s *served) encode(ctx context.Context) (time.Duration, error) {
	objs, _, err := s.regs.List(ctx, schema.Pods, "")
	if err != nil {
		return 0, err
	}
	before := ownCPU()
	_, err = json.Marshal(objs)
	return ownCPU() - before, err
}

// watch starts many watchers of pods, and takes what an event costs for each
// of them.
func (s *served) watch(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	list, err := s.kube.CoreV1().Pods("default").List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return 0, err
	}
	seen := make(chan struct{}, apiWatchers*apiEvents)
	failed := make(chan error, apiWatchers)
	var ready, closed sync.WaitGroup
	for range apiWatchers {
		ready.Add(1)
		closed.Go(func() {
			err := s.follow(ctx, list.ResourceVersion, ready.Done, func() { seen <- struct{}{} })
			if err != nil && ctx.Err() == nil {
				failed <- err
			}
		})
	}
	ready.Wait()
	n := 0
	took, err := s.cost(ctx, apiEvents, func() error {
		n++
		if err := s.touch(ctx, n); err != nil {
			return err
		}
		for range apiWatchers {
			select {
			case <-seen:
			case err := <-failed:
				return err
			case <-time.After(30 * time.Second):
				return errors.New("an event did not reach all watchers")
			}
		}
		return nil
	})
	cancel()
	closed.Wait()
	return took / apiWatchers, err
}

// follow reads a watch, and tells of each event.
func (s *served) follow(ctx context.Context, from string, ready, event func()) error {
	ready = sync.OnceFunc(ready)
	defer ready()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/api/v1/namespaces/default/pods?watch=true&resourceVersion="+from, nil)
	if err != nil {
		return err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	ready()
	lines := bufio.NewReaderSize(resp.Body, 1<<14)
	for {
		if _, err := lines.ReadSlice('\n'); err != nil {
			return err
		}
		event()
	}
}

// touch changes the pod that is watched.
func (s *served) touch(ctx context.Context, n int) error {
	obj, err := s.regs.Get(ctx, schema.KeyOf(apiPod(0)))
	if err != nil {
		return err
	}
	changed := obj.DeepCopyObject().(schema.Object)
	changed.SetAnnotations(map[string]string{"touched": strconv.Itoa(n) + "@" + obj.GetResourceVersion()})
	_, err = s.regs.Update(ctx, changed)
	return err
}

// writes makes config maps through the API and straight in the registries, and
// returns how many a second.
func (s *served) writes(ctx context.Context) ([2]float64, error) {
	var rates [2]float64
	ways := [2]func(*corev1.ConfigMap) error{
		func(cm *corev1.ConfigMap) error {
			_, err := s.kube.CoreV1().ConfigMaps("default").Create(ctx, cm, metav1.CreateOptions{})
			return err
		},
		func(cm *corev1.ConfigMap) error {
			_, err := s.regs.Create(ctx, cm)
			return err
		},
	}
	for i, create := range ways {
		if err := s.rest(ctx); err != nil {
			return rates, err
		}
		began := time.Now()
		if err := writeAll(create); err != nil {
			return rates, err
		}
		rates[i] = apiWrites / seconds(began)
		err := s.kube.CoreV1().ConfigMaps("default").DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "bench=writes"})
		if err != nil {
			return rates, err
		}
	}
	return rates, nil
}

func writeAll(create func(*corev1.ConfigMap) error) error {
	return atOnce(func(client int) error {
		for i := range apiWrites / apiClients {
			err := create(&corev1.ConfigMap{
				ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("m%d-%d", client, i), Namespace: "default", Labels: map[string]string{"bench": "writes"}},
				Data:       map[string]string{"a": "b"},
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}
