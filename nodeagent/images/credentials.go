package images

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Credential opens a registry, and knows which secret it is from.
type Credential struct {
	Username, Password string
	Secret             string // "<namespace>/<name>/<uid>"
}

// Keys name a credential by what it says and by the secret that it is from:
// after a change of the one, the other still tells that it is the same. Nobody
// learns the password from them.
func (c Credential) Keys() []string {
	return []string{"c" + digest(c.Username+"\x00"+c.Password), "s" + digest(c.Secret)}
}

// digest is short enough for a label.
func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:20])
}

// dockerHub is what Docker calls its own registry in its configuration.
const dockerHub = "index.docker.io"

// Credentials returns those of some secrets that are for an image, the most
// specific first (kubernetes.io/dockerconfigjson and kubernetes.io/dockercfg;
// Kubernetes: "Pull an Image from a Private Registry"). A secret that cannot
// be read is left out and named in the error.
func Credentials(image string, secrets []*corev1.Secret) ([]Credential, error) {
	var all []entry
	var errs []error
	for _, s := range secrets {
		found, err := entriesOf(s)
		if err != nil {
			errs = append(errs, fmt.Errorf("secret %s/%s: %w", s.Namespace, s.Name, err))
		}
		all = append(all, found...)
	}
	// Reverse order puts a path before the host that it is on.
	slices.SortStableFunc(all, func(a, b entry) int { return cmp.Compare(b.place, a.place) })
	repository := repositoryOf(image)
	var out, hub []Credential
	for _, e := range all {
		if matches(e.place, repository) {
			out = append(out, e.credential)
		}
		if e.place == dockerHub {
			hub = append(hub, e.credential)
		}
	}
	if len(out) == 0 && isOnDockerHub(repository) {
		out = hub
	}
	return out, errors.Join(errs...)
}

// entry is one registry, or part of one, that a secret opens.
type entry struct {
	place      string // host, or host and path; "*" stands for a part of the host
	credential Credential
}

// auth is Docker's form of a credential: Auth is base64 of "user:password".
type auth struct {
	Username string `json:"username"`
	Password string `json:"password"`
	Auth     string `json:"auth"`
}

func entriesOf(s *corev1.Secret) ([]entry, error) {
	auths := map[string]auth{}
	switch s.Type {
	case corev1.SecretTypeDockerConfigJson:
		var file struct {
			Auths map[string]auth `json:"auths"`
		}
		if err := unmarshal(s.Data[corev1.DockerConfigJsonKey], &file); err != nil {
			return nil, fmt.Errorf("%s: %w", corev1.DockerConfigJsonKey, err)
		}
		auths = file.Auths
	case corev1.SecretTypeDockercfg:
		if err := unmarshal(s.Data[corev1.DockerConfigKey], &auths); err != nil {
			return nil, fmt.Errorf("%s: %w", corev1.DockerConfigKey, err)
		}
	default:
		return nil, fmt.Errorf("type is %q: image pull secrets are of type %s", s.Type, corev1.SecretTypeDockerConfigJson)
	}
	var out []entry
	var errs []error
	for _, place := range slices.Sorted(maps.Keys(auths)) {
		e, err := entryOf(place, auths[place], fmt.Sprintf("%s/%s/%s", s.Namespace, s.Name, s.UID))
		if err != nil {
			errs = append(errs, fmt.Errorf("registry %q: %w", place, err))
			continue
		}
		out = append(out, e)
	}
	return out, errors.Join(errs...)
}

// unmarshal leaves out of the error what the data says: it is secret.
func unmarshal(data []byte, into any) error {
	if len(data) == 0 {
		return errors.New("is empty")
	}
	if json.Unmarshal(data, into) != nil {
		return errors.New("is not JSON of the expected form")
	}
	return nil
}

func entryOf(place string, a auth, secret string) (entry, error) {
	if a.Auth != "" {
		plain, err := decode(a.Auth)
		if err != nil {
			return entry{}, errors.New("auth is not base64")
		}
		var found bool
		if a.Username, a.Password, found = strings.Cut(string(plain), ":"); !found {
			return entry{}, errors.New("auth is not base64 of user:password")
		}
	}
	if !strings.HasPrefix(place, "https://") && !strings.HasPrefix(place, "http://") {
		place = "https://" + place
	}
	parsed, err := url.Parse(place)
	if err != nil {
		return entry{}, errors.New("is not an address")
	}
	below := parsed.Path
	if strings.HasPrefix(below, "/v1/") || strings.HasPrefix(below, "/v2/") {
		below = below[len("/v1"):]
	}
	if below == "/" {
		below = ""
	}
	return entry{place: parsed.Host + below, credential: Credential{Username: a.Username, Password: a.Password, Secret: secret}}, nil
}

func decode(field string) ([]byte, error) {
	field = strings.TrimSpace(field)
	if strings.HasSuffix(field, "=") {
		return base64.StdEncoding.DecodeString(field)
	}
	return base64.RawStdEncoding.DecodeString(field)
}

// repositoryOf is an image reference without tag and digest.
func repositoryOf(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if colon := strings.LastIndex(image, ":"); colon > strings.LastIndex(image, "/") {
		image = image[:colon]
	}
	return image
}

// matches compares the parts of the host, of which a credential's may be
// globs, the port, and the path, of which a credential's is a prefix.
func matches(place, repository string) bool {
	host, below := split(place)
	wantHost, wantBelow := split(repository)
	name, port := hostPort(host)
	wantName, wantPort := hostPort(wantHost)
	parts, wantParts := strings.Split(name, "."), strings.Split(wantName, ".")
	if port != wantPort || len(parts) != len(wantParts) || !strings.HasPrefix(wantBelow, below) {
		return false
	}
	for i := range parts {
		if ok, err := path.Match(parts[i], wantParts[i]); err != nil || !ok {
			return false
		}
	}
	return true
}

func split(place string) (host, below string) {
	if i := strings.Index(place, "/"); i >= 0 {
		return place[:i], place[i:]
	}
	return place, ""
}

func hostPort(host string) (name, port string) {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		return host, ""
	}
	return name, port
}

// isOnDockerHub: a first part without dot or port is no host.
func isOnDockerHub(repository string) bool {
	host, below := split(repository)
	return below == "" || host == "docker.io" || host == dockerHub || !strings.ContainsAny(host, ".:")
}
