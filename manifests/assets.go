package manifests

import (
	"fmt"
	"path"
	"strings"
)

// Limits on the assets of a snapshot.
const (
	MaxAssetBytes = 1 << 20 // of one; a config map takes no more
	MaxAssets     = 10_000
)

// kustomizationNames are what kustomize calls its file.
var kustomizationNames = map[string]bool{"kustomization.yaml": true, "kustomization.yml": true, "Kustomization": true}

// IsKustomization reports whether a path is that of a kustomization file.
func IsKustomization(file string) bool { return kustomizationNames[path.Base(file)] }

// HasAssetName reports whether a file below a kustomization, with a name that
// no manifest has, may be an asset: all but what editors leave.
func HasAssetName(file string) bool {
	name := path.Base(file)
	return !strings.HasSuffix(name, "~") && !strings.HasSuffix(name, ".swp") && !strings.HasSuffix(name, ".swx") &&
		!strings.HasPrefix(name, ".#") && !strings.HasPrefix(name, "#") && name != "4913"
}

// AssetTooBig is the error of reading an asset above MaxAssetBytes. It does
// not pass by itself.
func AssetTooBig(size int64) error {
	return fmt.Errorf("it has %d bytes, at most %d are read of a file that is no manifest", size, MaxAssetBytes)
}

// AssetsLeftOut is the finding of a source that has more assets than are
// read, at the first that is left out.
func AssetsLeftOut(source, file string) Diagnostic {
	return Diagnostic{
		Severity: Warning, Code: CodeKustomizationLimited, Position: Position{Source: source, File: file},
		Message:    fmt.Sprintf("more than %d files lie below kustomizations; this one and all behind it are left out", MaxAssets),
		Suggestion: "give the kustomization a directory of its own",
	}
}
