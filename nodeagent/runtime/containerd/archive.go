package containerd

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/containerd/containerd/v2/client"
)

// Import loads an OCI layout in a tar, or what "docker save" writes, plain or
// with gzip.
func (r *Runtime) Import(ctx context.Context, path string) ([]string, error) {
	ctx = r.scope(ctx)
	archive, err := openArchive(path)
	if err != nil {
		return nil, err
	}
	defer archive.Close()
	records, err := r.client.Import(ctx, archive,
		client.WithImageRefTranslator(func(name string) string { return archiveReference(path, name) }))
	if err != nil {
		return nil, wrap("import "+path, err)
	}
	if len(records) == 0 {
		return nil, fmt.Errorf("import %s: no image in it has a name: tag it before saving, as in docker save NAME:TAG", path)
	}
	var refs []string
	for _, record := range records {
		img, err := r.readImage(ctx, record)
		if err != nil {
			return refs, wrap("import "+record.Name, err)
		}
		if err := r.ensureUnpacked(ctx, img); err != nil {
			return refs, err
		}
		refs = append(refs, record.Name)
	}
	return refs, nil
}

type archiveFile struct {
	io.Reader
	file *os.File
}

func (a archiveFile) Close() error { return a.file.Close() }

// openArchive opens a file, through gzip where its first bytes say so.
func openArchive(path string) (io.ReadCloser, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open image archive: %w", err)
	}
	buffered := bufio.NewReaderSize(file, 1<<16)
	magic, err := buffered.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		_ = file.Close()
		return nil, fmt.Errorf("read image archive %s: %w", path, err)
	}
	if len(magic) < 2 || magic[0] != 0x1f || magic[1] != 0x8b {
		return archiveFile{buffered, file}, nil
	}
	plain, err := gzip.NewReader(buffered)
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("read image archive %s: %w", path, err)
	}
	return archiveFile{plain, file}, nil
}
