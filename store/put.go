package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/belljar/belljar/atomicfile"
	"github.com/belljar/belljar/fault"
	"golang.org/x/sys/unix"
)

// Put reads r to its end and keeps it. want "" and size -1 accept anything; a mismatch is an Input fault with a
// *Mismatch in its chain, and leaves nothing behind. At most size+1 bytes are read. An object that is there already
// is replaced by the same bytes, which mends a damaged one.
func (s *Store) Put(ctx context.Context, r io.Reader, want Digest, size int64) (Digest, int64, error) {
	if want != "" {
		if err := want.valid(); err != nil {
			return "", 0, err
		}
	}
	t, err := s.TempFile("put-*")
	if err != nil {
		return "", 0, err
	}
	defer t.Discard()
	h := sha256.New()
	if size >= 0 {
		r = io.LimitReader(r, size+1)
	}
	w := &diskWriter{w: t.File, dir: s.dir, need: size}
	n, err := io.Copy(io.MultiWriter(w, h), ctxReader{ctx, r})
	if err != nil {
		return "", 0, err
	}
	m := &Mismatch{Want: want, Got: sumOf(h), WantSize: size, GotSize: n}
	if size >= 0 && n > size {
		m.Got = ""
	}
	if !m.ok() {
		return "", 0, mismatchFault(m)
	}
	if err := s.admit(t.File, t.Name(), m.Got); err != nil {
		return "", 0, err
	}
	return m.Got, n, nil
}

func mismatchFault(m *Mismatch) error {
	return fault.New(fault.Input, "put object", "%w", m).
		WithRemedy("The bytes are not those that were pinned: get them from another place, or pin them anew " +
			"(belljar lock).")
}

// PutBytes is Put for what is in memory already.
func (s *Store) PutBytes(b []byte) (Digest, error) {
	d, _, err := s.Put(context.Background(), bytes.NewReader(b), "", int64(len(b)))
	return d, err
}

// PutFile takes the regular file at path: it is hashed and moved into the store, and path is gone afterwards. On the
// store's file system that is a rename, so that an image of many gigabytes is not copied and holes stay holes; from
// another file system, or where the file has other names, it is a copy that keeps the holes. Nobody may write the file
// meanwhile.
func (s *Store) PutFile(ctx context.Context, path string) (Digest, int64, error) {
	return s.putFile(ctx, path, "", -1)
}

func (s *Store) putFile(ctx context.Context, path string, want Digest, size int64) (Digest, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, hostFault("put file", s.dir, -1, err)
	}
	defer f.Close()
	fi, err := os.Lstat(path)
	if err != nil {
		return "", 0, hostFault("put file", s.dir, -1, err)
	}
	if !fi.Mode().IsRegular() {
		return "", 0, fault.New(fault.Input, "put file", "%s is a %s; expected a regular file", path, fi.Mode().Type())
	}
	m := &Mismatch{Want: want, WantSize: size, GotSize: fi.Size()}
	if size >= 0 && fi.Size() != size {
		return "", 0, mismatchFault(m)
	}
	if m.Got, err = hashFile(ctx, f, fi); err != nil {
		return "", 0, err
	}
	if !m.ok() {
		return "", 0, mismatchFault(m)
	}
	err = unix.EXDEV
	if st, ok := fi.Sys().(*syscall.Stat_t); !ok || st.Nlink == 1 {
		err = s.admit(f, path, m.Got)
	}
	if errors.Is(err, unix.EXDEV) {
		err = s.admitCopy(ctx, f, path, m.Got, fi.Size())
	}
	return m.Got, fi.Size(), err
}

// hashFile hashes f from its start and makes sure that it did not change size meanwhile.
func hashFile(ctx context.Context, f *os.File, before fs.FileInfo) (Digest, error) {
	h := sha256.New()
	n, err := io.Copy(h, ctxReader{ctx, io.NewSectionReader(f, 0, before.Size()+1)})
	if err != nil {
		return "", err
	}
	after, err := f.Stat()
	if err != nil {
		return "", err
	}
	if n != before.Size() || !after.ModTime().Equal(before.ModTime()) || !os.SameFile(before, after) {
		return "", fault.New(fault.Host, "put file", "%s changed while it was read", f.Name()).
			WithRemedy("Let the program that writes it end first.")
	}
	return sumOf(h), nil
}

// admit renames the hashed file at path to its place. From here on it is visible, whole, to everybody.
func (s *Store) admit(f *os.File, path string, d Digest) error {
	if err := f.Sync(); err != nil {
		return hostFault("put object", s.dir, -1, err)
	}
	folder := filepath.Dir(s.Path(d))
	fresh := os.Mkdir(folder, 0o755)
	if fresh != nil && !errors.Is(fresh, fs.ErrExist) {
		return hostFault("put object", s.dir, -1, fresh)
	}
	if err := os.Rename(path, s.Path(d)); err != nil {
		if errors.Is(err, unix.EXDEV) {
			return err
		}
		return hostFault("put object", s.dir, -1, err)
	}
	if err := f.Chmod(0o444); err != nil { // after the rename: a partial download stays writable whatever happens
		return hostFault("put object", s.dir, -1, err)
	}
	if fresh == nil {
		if err := atomicfile.SyncDir(s.path("objects")); err != nil {
			return hostFault("put object", s.dir, -1, err)
		}
	}
	if err := atomicfile.SyncDir(folder); err != nil {
		return hostFault("put object", s.dir, -1, err)
	}
	return nil
}

// admitCopy copies f's data extents, not its holes, then verifies the copy: f may have been written meanwhile.
func (s *Store) admitCopy(ctx context.Context, f *os.File, path string, d Digest, size int64) error {
	t, err := s.TempFile("copy-*")
	if err != nil {
		return err
	}
	defer t.Discard()
	if err := copySparse(ctx, t.File, f, size); err != nil {
		return hostFault("put file", s.dir, size, err)
	}
	if _, _, err := t.commit(ctx, d, size); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return hostFault("put file", filepath.Dir(path), -1, err)
	}
	return nil
}

// copySparse walks the source with SEEK_DATA and SEEK_HOLE, see lseek(2).
func copySparse(ctx context.Context, dst, src *os.File, size int64) error {
	if err := dst.Truncate(size); err != nil {
		return err
	}
	for at := int64(0); at < size; {
		data, err := src.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // only a hole is left
		}
		if err != nil {
			return err
		}
		hole, err := src.Seek(data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		part := io.NewSectionReader(src, data, hole-data)
		if _, err := io.Copy(io.NewOffsetWriter(dst, data), ctxReader{ctx, part}); err != nil {
			return err
		}
		at = hole
	}
	return nil
}

// writeFile replaces a small file atomically and durably. Unlike atomicfile it works in tmp, which is swept.
func (s *Store) writeFile(path string, b []byte) error {
	t, err := s.TempFile("file-*")
	if err != nil {
		return err
	}
	defer t.Discard()
	_, err = t.Write(b)
	if err == nil {
		err = t.Chmod(0o644)
	}
	if err == nil {
		err = t.Sync() // before the rename: a file that is not on the disk gets no name
	}
	if err == nil {
		err = os.Rename(t.Name(), path)
	}
	if err == nil {
		err = atomicfile.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return hostFault("write", s.dir, int64(len(b)), err)
	}
	return nil
}

// ctxReader ends when its context does.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

// diskWriter turns a write error into a host fault, so that it is told from an error of the reader.
type diskWriter struct {
	w    io.Writer
	dir  string
	need int64
}

func (d *diskWriter) Write(p []byte) (int, error) {
	n, err := d.w.Write(p)
	if err != nil {
		err = hostFault("write object", d.dir, d.need, err)
	}
	return n, err
}
