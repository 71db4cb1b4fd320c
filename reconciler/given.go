package reconciler

import (
	"slices"
	"strings"
)

// accessVolume begins the name of the volume by which a pod knows the API,
// which the registries give to it.
const accessVolume = "kube-api-access-"

// dropGiven takes out of a pod's trees what its service account gave to it: a
// plan without a cluster does not know that. What a manifest says stays.
func dropGiven(trees [4]map[string]any) {
	for _, name := range []string{"serviceAccountName", "serviceAccount", "imagePullSecrets"} {
		if dig(trees[2], "spec", name) != nil || dig(trees[3], "spec", name) != nil {
			continue
		}
		for _, t := range trees[:2] {
			if spec, ok := t["spec"].(map[string]any); ok {
				delete(spec, name)
			}
		}
	}
	if declaresAccess(trees[2]) || declaresAccess(trees[3]) {
		return
	}
	for _, t := range trees[:2] {
		spec, ok := t["spec"].(map[string]any)
		if !ok {
			continue
		}
		without(spec, "volumes")
		for _, list := range []string{"containers", "initContainers"} {
			containers, _ := spec[list].([]any)
			for _, c := range containers {
				if c, ok := c.(map[string]any); ok {
					without(c, "volumeMounts")
				}
			}
		}
	}
}

// without drops the items of a list that are of the volume, and the list if
// it has no others.
func without(in map[string]any, list string) {
	items, ok := in[list].([]any)
	if !ok {
		return
	}
	items = slices.DeleteFunc(items, isAccess)
	if in[list] = items; len(items) == 0 {
		delete(in, list)
	}
}

func declaresAccess(tree map[string]any) bool {
	volumes, _ := dig(tree, "spec", "volumes").([]any)
	return slices.ContainsFunc(volumes, isAccess)
}

func isAccess(item any) bool {
	named, _ := item.(map[string]any)
	name, _ := named["name"].(string)
	return strings.HasPrefix(name, accessVolume)
}
