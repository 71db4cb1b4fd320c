package containerd

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/distribution/reference"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// normalize completes an image reference as docker and Kubernetes do:
// "nginx" is "docker.io/library/nginx:latest".
func normalize(ref string) (string, error) {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return "", fmt.Errorf("image %q: %w: %w", ref, rt.ErrInvalidImage, err)
	}
	return named.String(), nil
}

// repository is a normalised reference without its tag and digest.
func repository(ref string) string {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ref
	}
	return named.Name()
}

var onlyTag = regexp.MustCompile(`^(latest|v?[0-9][A-Za-z0-9_.-]*)$`)

// archiveReference turns the name that an OCI archive gives an image into a
// reference. Some tools write only the tag there; the archive's file name then
// stands for the repository. A name that is no reference is given back empty.
func archiveReference(file, name string) string {
	if onlyTag.MatchString(name) {
		base := filepath.Base(file)
		for _, ext := range []string{".gz", ".tgz", ".tar", ".oci"} {
			base = strings.TrimSuffix(base, ext)
		}
		name = strings.ToLower(base) + ":" + name
	}
	ref, err := normalize(name)
	if err != nil {
		return ""
	}
	return ref
}
