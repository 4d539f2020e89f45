package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// maxMembers bounds how many files a foreign image may name: the whole of Debian's main has fewer.
const maxMembers = 16 << 20

// openTar makes a tree of a tar archive. Contents stay in the archive, but for those of sparse files, which have to be
// put together first.
func openTar(ctx context.Context, r io.ReaderAt, size int64, tempDir string, m *Image) (*tree, error) {
	at := io.NewSectionReader(r, 0, size)
	tr := tar.NewReader(at)
	t := newTree()
	var sp *spool
	var end int64 // of what has been read
	for count := 0; ; count++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			if off, _ := at.Seek(0, io.SeekCurrent); off == end {
				return nil, errors.New("tar: it is cut off: there is no end mark") // archive/tar takes that for an end
			}
			return t, nil
		}
		if err != nil {
			return nil, fmt.Errorf("tar: member %d: %w", count+1, err)
		}
		if count == maxMembers {
			return nil, fmt.Errorf("tar: more than %d members", maxMembers)
		}
		name, err := insideName(h.Name)
		if err != nil {
			return nil, fmt.Errorf("tar: member %d: %w", count+1, err)
		}
		off, _ := at.Seek(0, io.SeekCurrent) // archive/tar reads no further than the header
		end = off
		n := nodeOf(h, "image")
		switch h.Typeflag {
		case tar.TypeXGlobalHeader: // a comment, such as git archive's
			continue
		case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
			if !isSparse(h) {
				if off+h.Size > size {
					return nil, fmt.Errorf("tar: %s: %w", h.Name, io.ErrUnexpectedEOF)
				}
				n.data = section(r, off, h.Size)
				end = off + (h.Size+511)/512*512
				break
			}
			if sp == nil {
				if sp, err = newSpool(tempDir); err != nil {
					return nil, err
				}
				before := m.release
				m.release = func() error { return errors.Join(sp.Close(), before()) }
			}
			if h.Size > maxUnpacked {
				return nil, fmt.Errorf("tar: %s: %d bytes", h.Name, h.Size)
			}
			if n.data, err = sp.add(&ctxReader{ctx, tr}, h.Size); err != nil {
				return nil, fmt.Errorf("tar: %s: %w", h.Name, err)
			}
			end = -1 // where the holes of a sparse file end is archive/tar's affair
		case tar.TypeLink:
			target, err := insideName(h.Linkname)
			if err != nil {
				return nil, fmt.Errorf("tar: %s: %w", h.Name, err)
			}
			if n = t.get(target); n == nil || n.isDir() {
				return nil, fmt.Errorf("tar: %s is a hard link to %s, which is no file before it", h.Name, h.Linkname)
			}
		}
		if err := t.put(name, n); err != nil {
			return nil, fmt.Errorf("tar: %w", err)
		}
	}
}

func isSparse(h *tar.Header) bool {
	return h.Typeflag == tar.TypeGNUSparse || h.PAXRecords["GNU.sparse.realsize"] != "" ||
		h.PAXRecords["GNU.sparse.size"] != "" || h.PAXRecords["GNU.sparse.major"] != ""
}

// insideName makes a clean relative path of a member's name, and refuses one that climbs out.
func insideName(name string) (string, error) {
	clean := path.Clean(strings.TrimLeft(name, "/"))
	if name == "" || strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("name %q", name)
	}
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return "", fmt.Errorf("the name %q climbs out of the archive", name)
	}
	return clean, nil
}
