package scheduler

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/evenkeel/evenkeel/reconciler/volumes"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// SetVolumes says where the claims of pods, and their volumes, are looked up
// from now on. Without it pods are scheduled as if they claimed nothing.
func (s *State) SetVolumes(view volumes.View) { s.view = &view }

func (s *State) needsOf(pod *corev1.Pod) *volumes.Needs {
	if s.view == nil {
		return nil
	}
	return volumes.NeedsOf(pod, *s.view)
}

// hasVolumes says why a node cannot have the volumes that are claimed, or "".
func (n *node) hasVolumes(d *demand) string {
	if d.needs == nil {
		return ""
	}
	return d.needs.On(n.object)
}

// waits reports whether a node is chosen for claims first.
func (d *demand) waits() bool { return d.needs != nil && len(d.needs.Waiting) > 0 }

// selections are the claims that do not say yet where their pod will run.
func (d *demand) selections(n *node) []Selection {
	var out []Selection
	for _, claim := range d.needs.Waiting {
		if claim.Annotations[volumes.SelectedNode] == "" {
			out = append(out, Selection{Claim: claim, Node: n.name})
		}
	}
	return out
}

func viewOf(m *registry.Mirror) volumes.View {
	return volumes.View{
		Claim: func(namespace, name string) *corev1.PersistentVolumeClaim {
			claim, _ := registry.GetOf[*corev1.PersistentVolumeClaim](m, schema.PersistentVolumeClaims, namespace, name)
			return claim
		},
		Volume: func(name string) *corev1.PersistentVolume {
			v, _ := registry.GetOf[*corev1.PersistentVolume](m, schema.PersistentVolumes, "", name)
			return v
		},
		Volumes: func() []*corev1.PersistentVolume {
			return registry.ListOf[*corev1.PersistentVolume](m, schema.PersistentVolumes, "")
		},
		Class: func(name string) *storagev1.StorageClass {
			class, _ := registry.GetOf[*storagev1.StorageClass](m, schema.StorageClasses, "", name)
			return class
		},
	}
}

// selectNodes writes on claims where their pods will run. A claim that has
// changed since comes back here by itself.
func (l *loop) selectNodes(ctx context.Context, all []Selection) (done outcome) {
	wait := 50 * time.Millisecond
	for len(all) > 0 && ctx.Err() == nil {
		err := l.selectNode(ctx, all[0])
		var status apierrors.APIStatus
		switch {
		case errors.Is(err, registry.ErrFenced):
			done.err = fmt.Errorf("select node: %w", err)
			return done
		case err != nil && !errors.As(err, &status):
			l.cfg.Logger.Warn("selected node waits for the store", "key", schema.KeyOf(all[0].Claim), "error", err)
			wait = pause(ctx, wait)
			continue
		case err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err):
			l.cfg.Logger.Warn("selected node not written", "key", schema.KeyOf(all[0].Claim), "error", err)
		}
		all = all[1:]
	}
	return done
}

func (l *loop) selectNode(ctx context.Context, s Selection) error {
	changed := s.Claim.DeepCopy()
	if changed.Annotations == nil {
		changed.Annotations = map[string]string{}
	}
	changed.Annotations[volumes.SelectedNode] = s.Node
	_, err := l.cfg.Registries.Update(ctx, changed)
	return err
}
