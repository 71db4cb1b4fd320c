package apiserver

import (
	"runtime"

	"k8s.io/apimachinery/pkg/version"
	"k8s.io/component-base/compatibility"
)

// kubernetesVersion is the release of Kubernetes whose API this is: that of the
// modules it is built from.
const kubernetesVersion = "1.37.2"

// effectiveVersion is what k8s.io/apiserver asks for versions.
type effectiveVersion struct {
	compatibility.EffectiveVersion
	info version.Info
}

// Info implements compatibility.EffectiveVersion: it is served at /version.
func (v effectiveVersion) Info() *version.Info { return &v.info }

// versionOf returns the version of a server; ours is what build metadata adds.
func versionOf(ours string) effectiveVersion {
	name := "v" + kubernetesVersion + "+evenkeel"
	if ours != "" {
		name += "." + ours
	}
	return effectiveVersion{
		EffectiveVersion: compatibility.NewEffectiveVersionFromString(kubernetesVersion, "", ""),
		info: version.Info{
			Major: "1", Minor: "37", GitVersion: name, GitTreeState: "clean", BuildDate: "1970-01-01T00:00:00Z",
			GoVersion: runtime.Version(), Compiler: runtime.Compiler, Platform: runtime.GOOS + "/" + runtime.GOARCH,
		},
	}
}
