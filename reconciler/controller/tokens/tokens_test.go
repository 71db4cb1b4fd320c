package tokens_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/reconciler/controller/controllertest"
	"github.com/evenkeel/evenkeel/reconciler/controller/tokens"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// issuer makes tokens that say who they are of, and counts.
type issuer struct {
	mu    sync.Mutex
	count int
}

func (i *issuer) issue(_ context.Context, account *corev1.ServiceAccount, pod *corev1.Pod, node *corev1.Node, audience string, seconds int64) (string, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.count++
	now := time.Now().Unix()
	text := fmt.Sprintf(`{"iat":%d,"exp":%d,"kubernetes.io":{"serviceaccount":{"uid":%q}},"of":"%s %s %s %s"}`,
		now, now+seconds, account.UID, account.Name, pod.Name, node.Name, audience)
	return "head." + base64.RawURLEncoding.EncodeToString([]byte(text)) + ".signature", nil
}

func (i *issuer) issued() int {
	synctest.Wait()
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.count
}

func projection(audience string, seconds int64) corev1.VolumeProjection {
	return corev1.VolumeProjection{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: audience, ExpirationSeconds: &seconds, Path: "token"}}
}

func pod(name string, sources ...corev1.VolumeProjection) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{NodeName: "n1"}}
	if len(sources) > 0 {
		p.Spec.Volumes = []corev1.Volume{{Name: "t", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: sources}}}}
	}
	return p
}

func account(name string) *corev1.ServiceAccount {
	return &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
}

func start(w *controllertest.World) *issuer {
	i := &issuer{}
	w.Create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
	w.Start(func(ctx context.Context) error {
		return tokens.Run(ctx, tokens.Config{Writer: w.Writer, Issue: i.issue, Logger: w.Logger})
	})
	return i
}

// stored are a pod's tokens by name: of whom, and when they end, in minutes
// from now.
func stored(w *controllertest.World, p schema.Object) map[string]string {
	w.T.Helper()
	synctest.Wait()
	kv, err := w.Store.Get(w.T.Context(), schema.BindingTokensPath("n1", p.GetNamespace(), p.GetName(), p.GetUID()))
	if err != nil {
		return nil
	}
	obj, err := schema.Decode(kv.Value)
	if err != nil {
		w.T.Fatal(err)
	}
	out := map[string]string{}
	for name, token := range obj.(*corev1.Secret).Data {
		text, err := base64.RawURLEncoding.DecodeString(strings.Split(string(token), ".")[1])
		if err != nil {
			w.T.Fatal(err)
		}
		_, of, _ := strings.Cut(string(text), `"of":`)
		out[name] = strings.Trim(of, `"}`)
	}
	return out
}

func want(w *controllertest.World, what string, p schema.Object, want map[string]string) {
	w.T.Helper()
	if diff := cmp.Diff(want, stored(w, p), cmpopts.EquateEmpty()); diff != "" {
		w.T.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestTokens(t *testing.T) {
	controllertest.Run(t, func(w *controllertest.World) {
		i := start(w)
		web := w.Create(pod("web", projection("", 3607), projection("vault", 600), projection("", 3607)))
		plain := w.Create(pod("plain"))
		want(w, "without an account", web, nil)
		w.Create(account("default"))
		all := map[string]string{"|3607": "default web n1 ", "vault|600": "default web n1 vault"}
		want(w, "with an account", web, all)
		want(w, "a pod that asks for none", plain, nil)
		if got := i.issued(); got != 2 {
			t.Errorf("%d tokens were issued", got)
		}
		before := w.Revision()
		w.Status(web.(*corev1.Pod), false)
		<-time.After(470 * time.Second)
		if after := w.Revision(); after != before+1 {
			t.Errorf("%d writes before the tokens are old", after-before-1)
		}
		<-time.After(15 * time.Second) // 480 s is 4/5 of 600
		if got := i.issued(); got != 4 {
			t.Errorf("%d tokens after the first renewal", got)
		}
		w.Delete(schema.ServiceAccounts.Key("default", "default"), nil)
		w.Create(account("default"))
		if got := i.issued(); got != 6 {
			t.Errorf("%d tokens after the account was made anew", got)
		}
		w.Commit(registry.Put(schema.BindingTokensPath("n1", "default", "web", web.GetUID()), []byte("junk")))
		want(w, "broken", web, all)
		w.Status(web.(*corev1.Pod), false, func(s *corev1.PodStatus) { s.Phase = corev1.PodSucceeded })
		n := i.issued()
		<-time.After(time.Hour)
		want(w, "a pod that is over", web, all)
		if got := i.issued(); got != n {
			t.Errorf("%d tokens for a pod that is over", got-n)
		}
		w.Delete(schema.KeyOf(web), new(int64))
		want(w, "the pod gone", web, nil)
		if got := w.Keys(schema.BindingsPrefix + "n1/tokens/"); len(got) > 0 {
			t.Errorf("left: %v", got)
		}
	})
}

// TestBurst binds many pods and looks how many transactions it takes.
func TestBurst(t *testing.T) {
	controllertest.Run(t, func(w *controllertest.World) {
		i := start(w)
		for n := range 100 {
			w.Create(pod(fmt.Sprintf("web-%d", n), projection("", 3607)))
		}
		before := w.Revision()
		w.Create(account("default"))
		if after := w.Revision(); i.issued() != 100 || after-before > 3 {
			t.Errorf("%d tokens in %d transactions", i.issued(), after-before-1)
		}
	})
}

// TestStray removes tokens that no pod has.
func TestStray(t *testing.T) {
	controllertest.Run(t, func(w *controllertest.World) {
		w.Commit(registry.Put(schema.BindingTokensPath("n2", "default", "old.name", "u"), []byte("x")))
		start(w)
		if got := w.Keys(schema.BindingsPrefix + "n2/"); len(got) > 0 {
			t.Errorf("left: %v", got)
		}
	})
}
