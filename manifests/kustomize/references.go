package kustomize

import "strings"

// referencesFile is a file that kustomize finds beside the kustomization.
const referencesFile = ".evenkeel-references.yaml"

// references are where a ReplicationController names config maps and secrets.
// Kustomize follows the names of those that it renames in every other kind
// with a pod template, and leaves a ReplicationController's behind.
func references() string {
	var b strings.Builder
	b.WriteString("nameReference:\n")
	for _, r := range []struct{ kind, env, envFrom, volume, projected string }{
		{"ConfigMap", "configMapKeyRef", "configMapRef", "configMap/name", "configMap"},
		{"Secret", "secretKeyRef", "secretRef", "secret/secretName", "secret"},
	} {
		b.WriteString("- kind: " + r.kind + "\n  version: v1\n  fieldSpecs:\n")
		for _, path := range []string{
			"volumes/" + r.volume,
			"volumes/projected/sources/" + r.projected + "/name",
			"containers/env/valueFrom/" + r.env + "/name",
			"containers/envFrom/" + r.envFrom + "/name",
			"initContainers/env/valueFrom/" + r.env + "/name",
			"initContainers/envFrom/" + r.envFrom + "/name",
			"imagePullSecrets/name",
		} {
			if r.kind == "Secret" || path != "imagePullSecrets/name" {
				b.WriteString("  - path: spec/template/spec/" + path + "\n    kind: ReplicationController\n")
			}
		}
	}
	return b.String()
}
