package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/belljar/belljar/fault"
)

// maxReadAll bounds ReadAll: what is larger is streamed.
const maxReadAll = 64 << 20

// Open opens an object for reading from start to end. It is hashed as it is read: where io.EOF is due, a damaged
// object gives an Input fault instead and is moved aside. A reader that stops before the end has verified nothing;
// Stream is for those (tar and ar readers stop at their own end mark).
func (s *Store) Open(d Digest) (io.ReadCloser, error) { return s.open(d) }

func (s *Store) open(d Digest) (*reader, error) {
	if err := d.valid(); err != nil {
		return nil, err
	}
	f, err := os.Open(s.Path(d))
	if err != nil {
		return nil, s.readFault(d, err)
	}
	return &reader{s: s, d: d, f: f, h: sha256.New()}, nil
}

// Stream opens an object, hands it to use, and reads what use left over, so that all of it is verified. An error of
// the object's own wins over the one that use made of the damaged bytes.
func (s *Store) Stream(ctx context.Context, d Digest, use func(io.Reader) error) error {
	r, err := s.open(d)
	if err != nil {
		return err
	}
	defer r.Close()
	err = use(ctxReader{ctx, r})
	if _, rest := io.Copy(io.Discard, ctxReader{ctx, r}); rest != nil {
		return rest
	}
	return err
}

// ReadAll returns a small object, verified.
func (s *Store) ReadAll(d Digest) ([]byte, error) {
	size, err := s.Size(d)
	if err != nil {
		return nil, err
	}
	if size > maxReadAll {
		return nil, fmt.Errorf("read object %s: %d bytes are too many to hold in memory (limit %d)",
			d, size, maxReadAll)
	}
	r, err := s.open(d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// Verify hashes the whole object. A damaged one is moved aside and is an Input fault with its remedy.
func (s *Store) Verify(ctx context.Context, d Digest) error {
	return s.Stream(ctx, d, func(io.Reader) error { return nil })
}

type reader struct {
	s   *Store
	d   Digest
	f   *os.File
	h   hash.Hash
	n   int64
	err error // sticky: the end, good or bad
}

func (r *reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.f.Read(p)
	r.h.Write(p[:n])
	r.n += int64(n)
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF):
		r.err = io.EOF
		if got := sumOf(r.h); got != r.d {
			r.err = r.s.damagedFault(r.d, &Mismatch{Want: r.d, Got: got, WantSize: -1, GotSize: r.n}, r.f)
		}
	default:
		r.err = r.s.readFault(r.d, err)
	}
	return n, r.err
}

func (r *reader) Close() error { return r.f.Close() }

// damagedFault moves the open object f aside, unless another process has mended it already, and says so.
func (s *Store) damagedFault(d Digest, m *Mismatch, f *os.File) error {
	aside := "it has been replaced since"
	if linked(f, s.Path(d)) {
		to := s.path("damaged", string(d))
		aside = "it was moved aside to " + to
		if err := os.Rename(s.Path(d), to); err != nil {
			aside = fmt.Sprintf("it was left where it is (%v)", err)
		}
	}
	return fault.New(fault.Input, "store", "stored object %s is damaged: %w; %s", d, m, aside).
		WithRemedy("Run the same command again: belljar fetch downloads it anew, belljar build makes it anew. " +
			"If it happens again, check the disk.")
}
