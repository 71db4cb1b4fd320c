package containerd

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// The labels of an image that came from a registry: whoever has one of the
// credentials that pulled it may use it; anybody, if it was pulled without.
const (
	pulledLabel  = "evenkeel.io/pulled" // and so it has a repository digest
	anybodyLabel = "evenkeel.io/access-anybody"
	accessPrefix = "evenkeel.io/access."
)

func accessLabels(credential *rt.Credential) map[string]string {
	labels := map[string]string{pulledLabel: "true"}
	if credential == nil {
		labels[anybodyLabel] = "true"
		return labels
	}
	for _, key := range credential.Keys {
		labels[accessPrefix+key] = "true"
	}
	return labels
}

// accessOf reads labels. What was loaded from outside is there for anybody, as
// the kubelet has it with images that it did not pull.
func accessOf(labels map[string]string) rt.Access {
	var access rt.Access
	for _, label := range slices.Sorted(maps.Keys(labels)) {
		if key, ok := strings.CutPrefix(label, accessPrefix); ok {
			access.Keys = append(access.Keys, key)
		}
	}
	access.Anybody = labels[anybodyLabel] != "" || len(access.Keys) == 0
	return access
}

// keepAccess lets those who could use an image before it was pulled again go
// on doing so, if it is still the same one.
func (r *Runtime) keepAccess(ctx context.Context, before, now images.Image) (images.Image, error) {
	if before.Target.Digest != now.Target.Digest || before.Labels[pulledLabel] == "" {
		return now, nil
	}
	labels := maps.Clone(now.Labels)
	for label, value := range before.Labels {
		if label == anybodyLabel || strings.HasPrefix(label, accessPrefix) {
			labels[label] = value
		}
	}
	if maps.Equal(labels, now.Labels) {
		return now, nil
	}
	now.Labels = labels
	updated, err := r.client.ImageService().Update(ctx, now, "labels")
	if err != nil {
		return images.Image{}, wrap("note who may use "+now.Name, err)
	}
	return updated, nil
}
