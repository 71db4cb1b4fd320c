package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/manifests/dir"
	"github.com/evenkeel/evenkeel/manifests/watch"
)

func isURL(place string) bool {
	return strings.HasPrefix(place, "http://") || strings.HasPrefix(place, "https://")
}

// staticSource is a directory, a file or a URL of manifests.
func staticSource(place string, logger *slog.Logger) (manifests.Source, error) {
	if isURL(place) {
		return &single{place: place, file: "manifest.yaml", read: get, watch: everySoOften}, nil
	}
	place, err := filepath.Abs(place)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(place); err == nil && info.IsDir() || err != nil && filepath.Ext(place) == "" {
		return dir.New(dir.Config{Path: place, Logger: logger})
	}
	if !manifests.HasManifestName(place) {
		return nil, fmt.Errorf("%s: must be a directory, a URL, or a file whose name ends with .yaml, .yml or .json", place)
	}
	return &single{
		place: place, file: filepath.Base(place),
		read: func(_ context.Context, path string) ([]byte, error) { return os.ReadFile(path) },
		watch: func(ctx context.Context, changed func()) error {
			dirs := func() []string { return []string{filepath.Dir(place)} }
			return watch.Run(ctx, watch.Config{Dirs: dirs, Logger: logger}, changed)
		},
	}, nil
}

// single is a source of one file.
type single struct {
	place, file string
	read        func(ctx context.Context, place string) ([]byte, error)
	watch       func(ctx context.Context, changed func()) error
}

func (s *single) Name() string { return manifests.SourceName(s.place) }

// Snapshot reads the file.
func (s *single) Snapshot(ctx context.Context) (manifests.Snapshot, error) {
	data, err := s.read(ctx, s.place)
	if err != nil {
		return manifests.Snapshot{}, manifests.Unavailable(err)
	}
	sum := sha256.Sum256(data)
	hash := hex.EncodeToString(sum[:])
	return manifests.Snapshot{
		Source: s.Name(), Location: s.place, Revision: hash, Tree: hash,
		Files: []manifests.File{{Path: s.file, Hash: hash, Read: func() ([]byte, error) { return data, nil }}},
	}, nil
}

func (s *single) Watch(ctx context.Context, changed func()) error { return s.watch(ctx, changed) }

// How often a URL is asked, as the kubelet does, how long it may take, and how
// much of it is read.
const (
	urlEvery   = 20 * time.Second
	urlTimeout = 10 * time.Second
	urlBytes   = 10 << 20
)

func everySoOften(ctx context.Context, changed func()) error {
	ticker := time.NewTicker(urlEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			changed()
		}
	}
}

func get(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, urlTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get %s: %s", url, response.Status)
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, urlBytes+1))
	if err == nil && len(data) > urlBytes {
		err = errors.New("more than 10 MiB")
	}
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", url, err)
	}
	return data, nil
}
