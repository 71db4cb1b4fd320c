package manifests

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"time"
)

// Source is somewhere manifests are kept. Its methods may be called at once
// from several goroutines.
type Source interface {
	// Name identifies the source for as long as its place does not change.
	// It is a DNS label, fit to be a path element and an owner's name.
	Name() string

	// Snapshot reads the source as it is now, a remote one by fetching. An
	// error says that its content is unknown, and never that it is empty;
	// IsUnavailable tells those that may pass by themselves.
	Snapshot(ctx context.Context) (Snapshot, error)

	// Watch calls changed, from its own goroutine, whenever Snapshot may
	// give something new, and sometimes when it does not. It blocks until
	// ctx ends, then returns nil, or until it cannot watch any more.
	Watch(ctx context.Context, changed func()) error
}

// Snapshot is a source as it was at one moment. It is read-only.
type Snapshot struct {
	Source   string // the source's Name
	Location string // where it is, as a person would write it, without credentials
	Revision string // commit id, or a hash of the content
	Tree     string // hash of paths and content: equal trees load equally
	Commit   *Commit
	Files    []File // sorted by path

	// Assets are files that hold no manifests themselves but that manifests
	// may be rendered from: what else lies below a directory with a
	// kustomization, sorted by path. Tree covers them; a Loader does not read
	// them.
	Assets []File

	// Path is where the source lies in its repository, with slashes, and
	// Whole, if set, gives all of the repository at this revision, with paths
	// from its root: manifests may be rendered from what lies beside the source.
	Path  string
	Whole func(ctx context.Context) (Snapshot, error)

	// Findings are what the source itself has to say about what it left
	// out, such as symbolic links in a git tree.
	Findings Diagnostics
}

// Commit says where a git revision came from.
type Commit struct {
	ID      string
	Author  string // name <address>
	Time    time.Time
	Subject string
	Parents []string

	// Forced is set when the source has seen an earlier commit and this one
	// is known not to descend from it.
	Forced bool
}

// File is one file of a snapshot.
type File struct {
	Path string // relative to the source, with slashes
	Hash string // of the content; equal hashes are equal content

	// Read returns exactly the content that Hash names, or an error. It may
	// be called from several goroutines and only while the snapshot is the
	// source's newest or second newest.
	Read func() ([]byte, error)

	// Trace, of a file that was rendered, says where a person edits what
	// stands at a line and column of it. It may be called from several
	// goroutines.
	Trace func(line, column int) Place
}

// unavailable marks an error after which a later attempt may succeed.
type unavailable struct{ error }

func (u unavailable) Unwrap() error { return u.error }

// Unavailable marks err as saying that a source could not be read now: its
// content is unknown. It returns nil for nil.
func Unavailable(err error) error {
	if err == nil {
		return nil
	}
	return unavailable{err}
}

// IsUnavailable reports whether err says that a source could not be read for
// a reason that may pass: no network, a directory not mounted, a file being
// replaced.
func IsUnavailable(err error) bool {
	var u unavailable
	return errors.As(err, &u)
}

// HasManifestName reports whether a path, relative to its source, is one that
// may hold manifests: .yaml, .yml or .json, and no dot-file nor in a dot-dir.
func HasManifestName(path string) bool {
	for part := range strings.SplitSeq(path, "/") {
		if strings.HasPrefix(part, ".") {
			return false
		}
	}
	return strings.HasSuffix(path, ".yaml") || strings.HasSuffix(path, ".yml") || strings.HasSuffix(path, ".json")
}

const (
	slugLen = 40 // of a source's name without its hash
	hashLen = 8
)

// SourceName makes the name of a source from what identifies it: a readable
// word from the end of its first part, and a hash of all parts.
func SourceName(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	hash := hex.EncodeToString(sum[:])[:hashLen]
	word := strings.TrimSuffix(strings.TrimRight(parts[0], "/"), ".git")
	if i := strings.LastIndexAny(word, "/:"); i >= 0 {
		word = word[i+1:]
	}
	word = strings.Trim(strings.Map(labelRune, strings.ToLower(word)), "-")
	if len(word) > slugLen {
		word = strings.TrimRight(word[:slugLen], "-")
	}
	if word == "" {
		word = "source"
	}
	return word + "-" + hash
}

func labelRune(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
		return r
	}
	return '-'
}
