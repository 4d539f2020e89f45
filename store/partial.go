package store

import (
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Partial is an object that is being downloaded: a file that outlives its writer, so that the next one goes on where
// it stopped. One writer at a time has it, across processes.
type Partial struct {
	s    *Store
	d    Digest
	f    *os.File
	n    int64
	size int64
}

// Partial opens the partial download of d and waits while another writer has it. Size, -1 if unknown, is only told
// to people when the disk is full. After the wait the object may be there: look with Has.
func (s *Store) Partial(ctx context.Context, d Digest, size int64) (*Partial, error) {
	if err := d.valid(); err != nil {
		return nil, err
	}
	path := s.path("partial", string(d))
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, hostFault("open partial download", s.dir, size, err)
		}
		if err := flockWait(ctx, f, unix.LOCK_EX); err != nil {
			f.Close()
			return nil, err
		}
		if !linked(f, path) { // its last writer finished or gave up: begin anew
			f.Close()
			continue
		}
		n, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			f.Close()
			return nil, hostFault("open partial download", s.dir, size, err)
		}
		return &Partial{s, d, f, n, size}, nil
	}
}

// Offset is how many bytes are there: the next Write continues here.
func (p *Partial) Offset() int64 { return p.n }

func (p *Partial) Write(b []byte) (int, error) {
	n, err := p.f.Write(b)
	p.n += int64(n)
	if err != nil {
		err = hostFault("write download", p.s.dir, max(p.size-p.n, -1), err)
	}
	return n, err
}

// Reset drops what is there and begins anew.
func (p *Partial) Reset() error {
	_, err := p.f.Seek(0, io.SeekStart)
	if err = errors.Join(err, p.f.Truncate(0)); err != nil {
		return hostFault("reset download", p.s.dir, -1, err)
	}
	p.n = 0
	return nil
}

// Commit hashes what is on the disk and moves it into the store. Bytes that are not the object's are an Input fault
// with a *Mismatch in its chain, and are dropped; the Partial can then be written from its start again.
func (p *Partial) Commit(ctx context.Context) error {
	_, _, err := p.s.putFile(ctx, p.f.Name(), p.d, -1)
	if _, bad := errors.AsType[*Mismatch](err); bad {
		return errors.Join(err, p.Reset())
	}
	return err
}

// Close lets go and keeps the bytes for the next writer. After Commit or Discard it only lets go. An empty file is
// not worth keeping.
func (p *Partial) Close() error {
	if p.f == nil {
		return nil
	}
	if p.n == 0 {
		p.unlink()
	}
	err := p.f.Close()
	p.f = nil
	return err
}

// Discard drops the bytes and lets go.
func (p *Partial) Discard() error {
	if p.f == nil {
		return nil
	}
	p.unlink()
	return p.Close()
}

// unlink removes the file while its lock is held; after Commit the name is not ours any more.
func (p *Partial) unlink() {
	if path := p.s.path("partial", string(p.d)); linked(p.f, path) {
		os.Remove(path)
	}
}
