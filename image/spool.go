package image

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/belljar/belljar/atomicfile"
	"github.com/belljar/belljar/fault"
)

// spool is a temporary file without a name that holds the contents of a tree while it is being made. Several goroutines
// may add to it: each reserves its range first, so that where a file lies there says nothing about the result.
type spool struct {
	f   *os.File
	end atomic.Int64
}

func newSpool(dir string) (*spool, error) {
	dir = cmp.Or(dir, os.TempDir())
	f, err := atomicfile.Unnamed(dir)
	if err != nil {
		return nil, diskFault("spool", dir, fmt.Errorf("spool: %w", err))
	}
	return &spool{f: f}, nil
}

func (s *spool) Close() error { return s.f.Close() }

// at writes from an offset. An error of the disk is told from one of what is read.
func (s *spool) at(off int64) io.Writer {
	return hostWriter{io.NewOffsetWriter(s.f, off), folderOf(s.f)}
}

type hostWriter struct {
	w   io.Writer
	dir string
}

func (h hostWriter) Write(p []byte) (int, error) {
	n, err := h.w.Write(p)
	if err != nil {
		err = diskFault("write spool", h.dir, fault.New(fault.Host, "", "%w", err))
	}
	return n, err
}

// add copies exactly size bytes and returns where to read them again.
func (s *spool) add(r io.Reader, size int64) (content, error) {
	if size == 0 {
		return nil, nil
	}
	off := s.end.Add(size) - size
	n, err := io.CopyN(s.at(off), r, size)
	if err != nil {
		return nil, fmt.Errorf("after %d of %d bytes: %w", n, size, err)
	}
	return section(s.f, off, size), nil
}

// addAll copies all of r, whose size nobody knows yet. It must not run beside other calls.
func (s *spool) addAll(r io.Reader, limit int64) (content, int64, error) {
	off := s.end.Load()
	n, err := io.Copy(s.at(off), io.LimitReader(r, limit+1))
	if err == nil && n > limit {
		err = fmt.Errorf("more than %d bytes", limit)
	}
	s.end.Add(n)
	return section(s.f, off, n), n, err
}
