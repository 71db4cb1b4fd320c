package git

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/transport"
)

// place is where a repository is.
type place struct {
	path     string              // on this machine; "" for a remote one
	endpoint *transport.Endpoint // of a remote one
	url      string              // to connect to, with any credentials
	shown    string              // without them
}

func (p place) local() bool { return p.path != "" }

// parsePlace reads a URL as people write it. A path that exists here is never
// taken for "host:path".
func parsePlace(raw string) (place, error) {
	if raw == "" {
		return place{}, errors.New("no URL")
	}
	path := strings.TrimPrefix(raw, "file://")
	_, statErr := os.Stat(path)
	if path != raw || statErr == nil || filepath.IsAbs(path) || strings.HasPrefix(path, "./") || strings.HasPrefix(path, "../") {
		abs, err := filepath.Abs(path)
		if err != nil {
			return place{}, fmt.Errorf("%s: %w", path, err)
		}
		return place{path: abs, shown: abs}, nil
	}
	endpoint, err := transport.NewEndpoint(raw)
	if err != nil {
		return place{}, fmt.Errorf("%s: %w", withoutPassword(raw), err)
	}
	switch endpoint.Protocol {
	case "https", "http", "ssh", "git":
		return place{endpoint: endpoint, url: raw, shown: withoutPassword(raw)}, nil
	case "file":
		return place{}, fmt.Errorf("%s: no such directory", raw)
	}
	return place{}, fmt.Errorf("%s: the protocol %q is not read", withoutPassword(raw), endpoint.Protocol)
}

// withoutPassword gives a URL as it may be shown. The user's name stays for
// ssh, where it is part of the place; elsewhere it may be a token.
func withoutPassword(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.User == nil {
		return raw
	}
	if u.Scheme == "ssh" {
		u.User = url.User(u.User.Username())
	} else {
		u.User = nil
	}
	return u.String()
}

// IsRepository reports whether a person who names this place means a git
// repository: it is a URL or "host:path", or a directory here that is a
// repository or has one in .git.
func IsRepository(place string) bool {
	pl, err := parsePlace(place)
	if err != nil {
		return false
	}
	return !pl.local() || gitDir(pl.path) != ""
}

// gitDir returns the directory of a repository on this machine, for a linked
// work tree its own one, or "" where there is none.
func gitDir(path string) string {
	for _, dir := range []string{filepath.Join(path, ".git"), path} {
		info, err := os.Stat(dir)
		if err != nil {
			continue
		}
		if !info.IsDir() {
			text, err := os.ReadFile(dir)
			target, ok := strings.CutPrefix(strings.TrimSpace(string(text)), "gitdir: ")
			if err != nil || !ok {
				continue
			}
			if !filepath.IsAbs(target) {
				target = filepath.Join(path, target)
			}
			return target
		}
		if _, err := os.Stat(filepath.Join(dir, "HEAD")); err == nil {
			return dir
		}
	}
	return ""
}

// commonDir returns where the references are: for a linked work tree, the
// directory of the repository it belongs to.
func commonDir(gitDir string) string {
	text, err := os.ReadFile(filepath.Join(gitDir, "commondir"))
	if err != nil {
		return gitDir
	}
	common := strings.TrimSpace(string(text))
	if !filepath.IsAbs(common) {
		common = filepath.Join(gitDir, common)
	}
	return common
}
