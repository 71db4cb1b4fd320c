package volume

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ReadInside reads a file of a volume, which no link leads out of; one that is
// larger than max bytes is an error.
func ReadInside(volumePath, name string, max int64) ([]byte, error) {
	base, err := unix.Open(volumePath, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open volume: %w", err)
	}
	defer unix.Close(base)
	fd, err := unix.Openat2(base, filepath.Clean(name), &unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return readRegular(os.NewFile(uintptr(fd), name), max)
}

func readRegular(f *os.File, max int64) ([]byte, error) {
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a file", f.Name())
	case info.Size() > max:
		return nil, fmt.Errorf("%s has more than %d bytes", f.Name(), max)
	}
	return io.ReadAll(io.LimitReader(f, max))
}
