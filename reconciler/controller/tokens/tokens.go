// Package tokens gives every bound pod the service account tokens that its
// projected volumes ask for, where its node's agent reads them, and renews them
// before they end.
//
// The control plane's leader runs it. It issues nothing itself: whoever starts
// it says how. Tokens go with the pod's binding.
package tokens

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/reconciler/controller"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// Issue makes a token of a pod's service account; audience "" is the API. node
// is nil if the pod's is gone.
type Issue func(ctx context.Context, account *corev1.ServiceAccount, pod *corev1.Pod, node *corev1.Node, audience string, seconds int64) (string, error)

// Config says what the controller works on; all fields but Metrics, Workers
// and Now are required.
type Config struct {
	Writer  controller.Writer
	Issue   Issue
	Metrics *controller.Metrics
	Logger  *slog.Logger
	Workers int              // default 2
	Now     func() time.Time // default time.Now
}

// longestWait is how long nobody looks at a node's tokens at most: timers stand
// still while a machine sleeps, and tokens do not.
const longestWait = 5 * time.Minute

// keeper works node by node, so that many pods bound at once are written at
// once.
type keeper struct {
	Config
	pods     map[schema.Key]boundPod                // that want tokens
	accounts map[schema.Key]map[schema.Key]struct{} // by service account: those of pods

	mu   sync.Mutex
	seen map[string]seen // by path
}

// boundPod is what was last known of a pod.
type boundPod struct {
	node    string
	account schema.Key
}

// seen is a key whose tokens need not be looked at before a time.
type seen struct {
	mod   int64
	names string
	renew time.Time
}

// Run keeps the tokens until ctx ends (nil) or the leader's term does
// (registry.ErrFenced).
func Run(ctx context.Context, cfg Config) error {
	if cfg.Workers == 0 {
		cfg.Workers = 2
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	k := &keeper{Config: cfg, pods: map[schema.Key]boundPod{}, accounts: map[schema.Key]map[schema.Key]struct{}{}, seen: map[string]seen{}}
	loop := controller.Loop{
		Name: "tokens", Mirror: cfg.Writer.Mirror, After: cfg.Writer.Registries.Term(),
		Kinds: []*schema.Kind{schema.Pods, schema.ServiceAccounts}, Raw: schema.BindingsPrefix,
		Map: k.dirty, Reconcile: k.reconcile, Workers: cfg.Workers, Metrics: cfg.Metrics, Logger: cfg.Logger,
	}
	return loop.Run(ctx)
}

// dirty names the nodes whose tokens a change may alter.
func (k *keeper) dirty(changed schema.Key) []schema.Key {
	switch changed.Resource {
	case "":
		node, rest, _ := strings.Cut(strings.TrimPrefix(changed.Name, schema.BindingsPrefix), "/")
		if !strings.HasPrefix(rest, schema.BindingTokensName+"/") {
			return nil
		}
		return []schema.Key{schema.Nodes.Key("", node)}
	case schema.ServiceAccounts.Resource:
		var nodes []schema.Key
		for pod := range k.accounts[changed] {
			nodes = append(nodes, schema.Nodes.Key("", k.pods[pod].node))
		}
		return nodes
	}
	return k.dirtyByPod(changed)
}

func (k *keeper) dirtyByPod(key schema.Key) []schema.Key {
	var nodes []schema.Key
	before, known := k.pods[key]
	if known {
		nodes = append(nodes, schema.Nodes.Key("", before.node))
		delete(k.pods, key)
		delete(k.accounts[before.account], key)
		if len(k.accounts[before.account]) == 0 {
			delete(k.accounts, before.account)
		}
	}
	pod, ok := k.Writer.Mirror.Stored(key).(*corev1.Pod)
	if !ok || pod.Spec.NodeName == "" || len(Wanted(pod)) == 0 {
		return nodes
	}
	now := boundPod{node: pod.Spec.NodeName, account: accountOf(pod)}
	k.pods[key] = now
	if k.accounts[now.account] == nil {
		k.accounts[now.account] = map[schema.Key]struct{}{}
	}
	k.accounts[now.account][key] = struct{}{}
	if known && before.node == now.node {
		return nodes
	}
	return append(nodes, schema.Nodes.Key("", now.node))
}

func (k *keeper) reconcile(ctx context.Context, key schema.Key) error {
	m, now := k.Writer.Mirror, k.Now()
	node, _ := m.Get(key).(*corev1.Node)
	prefix := schema.BindingPrefix(key.Name) + schema.BindingTokensName + "/"
	there := map[string]registry.KV{}
	for _, kv := range m.Raw(prefix) {
		there[kv.Key] = kv
	}
	var writes []registry.Write
	next := now.Add(longestWait)
	for _, podKey := range m.PodsOn(key.Name) {
		pod, ok := m.Get(podKey).(*corev1.Pod)
		if !ok || len(Wanted(pod)) == 0 {
			continue
		}
		path := schema.BindingTokensPath(key.Name, pod.Namespace, pod.Name, pod.UID)
		renew, write, err := k.pod(ctx, pod, node, path, there[path], now)
		if err != nil {
			return fmt.Errorf("tokens of %s: %w", podKey, err)
		}
		delete(there, path)
		if write != nil {
			writes = append(writes, *write)
		} else if !renew.IsZero() && renew.Before(next) {
			next = renew
		}
	}
	for path, kv := range there {
		k.forget(path)
		op := registry.Delete(path)
		writes = append(writes, registry.Write{Raw: &op, Guard: &registry.Guard{Key: path, Mod: kv.Mod}})
	}
	if err := k.Writer.CommitAll(ctx, writes); err != nil {
		return fmt.Errorf("write the tokens of %s: %w", key, err)
	}
	if len(m.PodsOn(key.Name)) == 0 {
		return nil
	}
	return controller.Later{After: max(next.Sub(now), time.Second)}
}

// pod returns when a pod's tokens have to be looked at again, or the write that
// renews them. A pod that is over keeps what it has.
func (k *keeper) pod(ctx context.Context, pod *corev1.Pod, node *corev1.Node, path string, there registry.KV, now time.Time) (time.Time, *registry.Write, error) {
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return time.Time{}, nil, nil
	}
	account, ok := k.Writer.Mirror.Get(accountOf(pod)).(*corev1.ServiceAccount)
	if !ok {
		return time.Time{}, nil, nil // comes as a change
	}
	names := fmt.Sprint(account.UID, Wanted(pod))
	if s, known := k.known(path); known && s.mod == there.Mod && s.names == names && s.renew.After(now) {
		return s.renew, nil, nil
	}
	if renew, ok := goodUntil(there.Value, pod, account); ok && renew.After(now) {
		k.note(path, seen{mod: there.Mod, names: names, renew: renew})
		return renew, nil, nil
	}
	value, err := k.issue(ctx, account, pod, node)
	if err != nil {
		return time.Time{}, nil, err
	}
	op := registry.Put(path, value)
	binding := schema.BindingPath(pod.Spec.NodeName, schema.KeyOf(pod))
	return time.Time{}, &registry.Write{Raw: &op, Guard: &registry.Guard{Key: binding, Mod: registry.Present}}, nil
}

func (k *keeper) issue(ctx context.Context, account *corev1.ServiceAccount, pod *corev1.Pod, node *corev1.Node) ([]byte, error) {
	secret := &corev1.Secret{Data: map[string][]byte{}}
	secret.Namespace, secret.Name = pod.Namespace, pod.Name
	for _, want := range Wanted(pod) {
		token, err := k.Issue(ctx, account, pod, node, want.Audience, want.Seconds)
		if err != nil {
			return nil, err
		}
		secret.Data[want.name()] = []byte(token)
	}
	return schema.Encode(secret)
}

func (k *keeper) known(path string) (seen, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, ok := k.seen[path]
	return s, ok
}

func (k *keeper) note(path string, s seen) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.seen[path] = s
}

func (k *keeper) forget(path string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.seen, path)
}
