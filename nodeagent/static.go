package nodeagent

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// StaticPod makes a pod, as its manifest has it with defaults, one of this
// node's own: its name ends with the node's, its UID says what it was made of,
// so that another manifest is another pod, and source ("file", "http") is kept
// as an annotation (Kubernetes: "Create static Pods").
func StaticPod(pod *corev1.Pod, node, source string) (*corev1.Pod, error) {
	pod = pod.DeepCopy()
	pod.Name += "-" + node
	pod.UID = ""
	data, err := schema.Encode(pod)
	if err != nil {
		return nil, fmt.Errorf("static pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	uid := uuid.NewSHA1(uuid.NameSpaceOID, append([]byte(node+"\x00"+source+"\x00"), data...)).String()
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.UID = types.UID(uid)
	pod.Annotations[schema.ConfigSourceAnnotation] = source
	pod.Annotations[schema.ConfigHashAnnotation] = uid
	pod.Spec.NodeName = node
	return pod, nil
}

// isStaticUID tells the UIDs that StaticPod makes from those that registries do.
func isStaticUID(uid string) bool {
	id, err := uuid.Parse(uid)
	return err == nil && id.Version() == 5
}

// takeStatic takes the next set of static pods, which are all that there are;
// false means that there will be no other.
func (a *agent) takeStatic(ctx context.Context, spawn func(*worker)) bool {
	select {
	case <-ctx.Done():
		return false
	case pods, open := <-a.cfg.Static:
		if !open {
			return false
		}
		if err := a.setPodCIDR(); err != nil {
			a.cfg.Logger.Error("pods get no address", "error", err)
		}
		if err := a.setPodCIDR(); err != nil {
			a.cfg.Logger.Error("pods get no address", "error", err)
		}
		uids := a.bindings.setStatic(pods)
		a.mu.Lock()
		defer a.mu.Unlock()
		for uid := range a.leftover {
			if isStaticUID(uid) {
				uids = append(uids, uid) // to stay, or to be removed
			}
		}
		for _, uid := range uids {
			if a.bindings.pod(uid) != nil {
				delete(a.leftover, uid)
			}
		}
		a.wakeLocked(uids, spawn)
		poke(a.staticChanged)
		return true
	}
}

// setStatic returns the UIDs of the pods that came or went.
func (b *bindings) setStatic(pods []*corev1.Pod) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	next := make(map[string]*corev1.Pod, len(pods))
	for _, pod := range pods {
		next[string(pod.UID)] = pod
		if same := b.static[string(pod.UID)]; same != nil {
			next[string(pod.UID)] = same
		}
	}
	uids := slices.Collect(maps.Keys(maps.Collect(differing(b.static, next))))
	b.static = next
	return uids
}

// mirrored returns under which UID the store knows of a pod: a static one is
// known by the mirror that the control plane keeps of it, if there is one.
func (b *bindings) mirrored(uid types.UID) (types.UID, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.static[string(uid)] != nil {
		mirror := b.mirrors[string(uid)]
		if mirror == nil || mirror.DeletionTimestamp != nil {
			return "", false
		}
		return mirror.UID, true
	}
	for _, mirror := range b.mirrors {
		if mirror.UID == uid {
			return uid, true
		}
	}
	return uid, b.pods[string(uid)] != nil
}

func (b *bindings) mirror(uid string) *corev1.Pod {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mirrors[uid]
}

// mirrorChanged says anew how a static pod is, to a new mirror of it, and of a
// mirror that is being deleted that nothing holds it.
func (a *agent) mirrorChanged(uid string) {
	mirror := a.bindings.mirror(uid)
	if mirror != nil && mirror.DeletionTimestamp != nil {
		a.publisher.publish(report{
			pod: types.NamespacedName{Namespace: mirror.Namespace, Name: mirror.Name}, uid: mirror.UID, status: mirror.Status, stopped: true,
		})
	}
	if w := a.workers[uid]; w != nil {
		w.tell(news{mirror: true})
	}
}

// showStatic keeps the list of the node's static pods in the store, from which
// the control plane makes their mirrors.
func (a *agent) showStatic(ctx context.Context) error {
	if a.cfg.Static == nil {
		return nil
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.staticChanged:
		case <-time.After(resync):
		}
		for ctx.Err() == nil {
			err := a.writeStatic(ctx)
			if err == nil {
				break
			}
			a.cfg.Logger.Warn("static pods not shown, will be tried again", "error", err)
			wait(ctx, storeRetry)
		}
	}
}

func (a *agent) writeStatic(ctx context.Context) error {
	prefix := schema.StaticPodsPrefix + a.cfg.Node + "/"
	there, _, err := a.cfg.Store.List(ctx, prefix, 0)
	if err != nil {
		return err
	}
	ops, err := a.bindings.staticOps(prefix, there)
	if err != nil {
		return err
	}
	for chunk := range slices.Chunk(ops, registry.MaxOps) {
		if _, err := a.cfg.Store.Commit(ctx, registry.Txn{Ops: chunk}); err != nil {
			return err
		}
	}
	return nil
}

// staticOps are the writes that make the keys below prefix the static pods.
func (b *bindings) staticOps(prefix string, there []registry.KV) ([]registry.Op, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	want := map[string][]byte{}
	for _, pod := range b.static {
		data, err := schema.Encode(pod)
		if err != nil {
			return nil, err
		}
		want[prefix+pod.Namespace+"/"+pod.Name] = data
	}
	var ops []registry.Op
	for _, kv := range there {
		data, wanted := want[kv.Key]
		if !wanted {
			ops = append(ops, registry.Delete(kv.Key))
		}
		if bytes.Equal(data, kv.Value) {
			delete(want, kv.Key)
		}
	}
	for key, data := range want {
		ops = append(ops, registry.Put(key, data))
	}
	return ops, nil
}
