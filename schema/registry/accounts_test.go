package registry_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

func TestServiceAccounts(t *testing.T) {
	r := registry.New(memoryWithNamespace(t), registry.Config{ServiceAccounts: true})
	account := func(name string, change func(*corev1.ServiceAccount)) *corev1.ServiceAccount {
		sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
		change(sa)
		return sa
	}
	must[schema.Object](t)(r.Create(t.Context(), account("closed", func(sa *corev1.ServiceAccount) { sa.AutomountServiceAccountToken = new(false) })))
	must[schema.Object](t)(r.Create(t.Context(), account("pulls", func(sa *corev1.ServiceAccount) {
		sa.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "key"}}
	})))
	make := func(name string, change func(*corev1.PodSpec)) (*corev1.Pod, error) {
		p := pod(name, "")
		p.Spec.InitContainers = []corev1.Container{{Name: "i"}}
		p.Spec.Containers = []corev1.Container{{Name: "a"}, {Name: "b"}}
		change(&p.Spec)
		got, err := r.DryRun(t.Context(), registry.Write{Create: p})
		if err != nil {
			return nil, err
		}
		return got.(*corev1.Pod), nil
	}
	for name, tc := range map[string]struct {
		change  func(*corev1.PodSpec)
		account string
		mounts  int // in the pod
		volumes int
	}{
		"the default one":        {func(*corev1.PodSpec) {}, "default", 3, 1},
		"the account says no":    {func(s *corev1.PodSpec) { s.ServiceAccountName = "closed" }, "closed", 0, 0},
		"the pod says yes":       {func(s *corev1.PodSpec) { s.ServiceAccountName = "closed"; s.AutomountServiceAccountToken = new(true) }, "closed", 3, 1},
		"the pod says no":        {func(s *corev1.PodSpec) { s.AutomountServiceAccountToken = new(false) }, "default", 0, 0},
		"something lies there":   {func(s *corev1.PodSpec) { mountAt(s.Containers, "own"); mountAt(s.InitContainers, "own") }, "default", 3, 0},
		"in one of them":         {func(s *corev1.PodSpec) { mountAt(s.Containers[:1], "own") }, "default", 3, 1},
		"it has the volume":      {func(s *corev1.PodSpec) { s.Volumes = []corev1.Volume{{Name: "kube-api-access-x"}} }, "default", 3, 1},
		"the account has a pull": {func(s *corev1.PodSpec) { s.ServiceAccountName = "pulls" }, "pulls", 3, 1},
	} {
		t.Run(name, func(t *testing.T) {
			got := must[*corev1.Pod](t)(make("p", tc.change))
			mounts, known := 0, map[string]bool{"own": true}
			for _, v := range got.Spec.Volumes {
				known[v.Name] = true
			}
			for _, c := range append(got.Spec.InitContainers, got.Spec.Containers...) {
				mounts += len(c.VolumeMounts)
				for _, m := range c.VolumeMounts {
					if !known[m.Name] {
						t.Errorf("%s mounts %s, which is no volume", c.Name, m.Name)
					}
				}
			}
			if got.Spec.ServiceAccountName != tc.account || mounts != tc.mounts || len(got.Spec.Volumes) != tc.volumes {
				t.Errorf("account %s, %d mounts, volumes %v", got.Spec.ServiceAccountName, mounts, got.Spec.Volumes)
			}
			if pulls := len(got.Spec.ImagePullSecrets); pulls != strings.Count(tc.account, "pulls") {
				t.Errorf("%d pull secrets", pulls)
			}
		})
	}
	_, err := make("p", func(s *corev1.PodSpec) { s.ServiceAccountName = "nobody" })
	if !apierrors.IsForbidden(err) {
		t.Errorf("an account that is not there: %v", err)
	}
	p := pod("p", "")
	p.Spec.ServiceAccountName = "new"
	_, _, err = r.Commit(t.Context(), []registry.Write{{Create: account("new", func(*corev1.ServiceAccount) {})}, {Create: p}})
	if err != nil {
		t.Errorf("an account of the same batch: %v", err)
	}
}

func mountAt(containers []corev1.Container, volume string) {
	for i := range containers {
		containers[i].VolumeMounts = []corev1.VolumeMount{{Name: volume, MountPath: "/var/run/secrets/kubernetes.io/serviceaccount"}}
	}
}
