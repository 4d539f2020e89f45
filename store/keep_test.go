package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belljar/belljar/fault"
)

func TestPutFile(t *testing.T) {
	t.Run("moves, keeps holes", func(t *testing.T) {
		s := open(t)
		tmp, err := s.TempFile("image-*")
		if err != nil {
			t.Fatal(err)
		}
		defer tmp.Discard()
		const size = 64 << 20
		if err := tmp.Truncate(size); err != nil {
			t.Fatal(err)
		}
		tmp.WriteAt([]byte("partition table"), 512)
		before, _ := tmp.Stat()
		d, n, err := tmp.Commit(t.Context())
		if err != nil || n != size {
			t.Fatal(n, err)
		}
		after, err := os.Stat(s.Path(d))
		if err != nil || !os.SameFile(before, after) {
			t.Fatalf("copied, not moved (%v)", err)
		}
		if got := onDisk(after); got > 1<<20 {
			t.Errorf("%d bytes on the disk: the holes are gone", got)
		}
		if err := s.Verify(t.Context(), d); err != nil {
			t.Error(err)
		}
		if left := files(t, s, "tmp"); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	t.Run("a file with two names is copied, holes kept", func(t *testing.T) {
		s := open(t)
		dir := t.TempDir()
		a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
		f, _ := os.Create(a)
		f.Truncate(32 << 20)
		f.WriteAt([]byte("middle"), 16<<20)
		f.Close()
		if err := os.Link(a, b); err != nil {
			t.Fatal(err)
		}
		d, _, err := s.PutFile(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		fi, _ := os.Stat(s.Path(d))
		if fb, _ := os.Stat(b); os.SameFile(fi, fb) {
			t.Error("the object shares its bytes with a file that others write")
		}
		if onDisk(fi) > 1<<20 || s.Verify(t.Context(), d) != nil {
			t.Errorf("copy takes %d bytes; verify: %v", onDisk(fi), s.Verify(t.Context(), d))
		}
		if _, err := os.Stat(a); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a is still there: %v", err)
		}
	})
	t.Run("from another file system", func(t *testing.T) {
		s := open(t)
		f, err := os.CreateTemp("/dev/shm", "belljar-store-test-*")
		if err != nil {
			t.Skipf("no second file system to move from: %v", err)
		}
		defer os.Remove(f.Name())
		f.WriteString("over there")
		f.Close()
		d, _, err := s.PutFile(t.Context(), f.Name())
		if err != nil || s.Verify(t.Context(), d) != nil {
			t.Fatal(d, err)
		}
		if _, err := os.Stat(f.Name()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the source is still there: %v", err)
		}
	})
	t.Run("not a file", func(t *testing.T) {
		if _, _, err := open(t).PutFile(t.Context(), t.TempDir()); fault.KindOf(err) != fault.Input {
			t.Errorf("got %v", err)
		}
	})
}

func TestRefs(t *testing.T) {
	s := open(t)
	type image struct{ Root Digest }
	for _, key := range []string{"plain-1.0+b~2", "a/b", "..", ".", "ä b", "%41", strings.Repeat("f", 64)} {
		want := image{digestOf([]byte(key))}
		if err := s.Bind("images", key, want); err != nil {
			t.Fatalf("%q: %v", key, err)
		}
		var got image
		if ok, err := s.Lookup("images", key, &got); !ok || err != nil || got != want {
			t.Errorf("%q: %v %v %v", key, ok, err, got)
		}
		keys, err := s.List("images")
		if err != nil || len(keys) != 1 || keys[0] != key {
			t.Errorf("%q: List %q, %v", key, keys, err)
		}
		if err := s.Unbind("images", key); err != nil {
			t.Error(err)
		}
		if ok, _ := s.Lookup("images", key, &got); ok {
			t.Errorf("%q: still there", key)
		}
	}
	if keys, err := s.List("stages"); len(keys) != 0 || err != nil {
		t.Errorf("empty kind: %v, %v", keys, err)
	}
	for _, kind := range []string{"", "..", "a/b", "A"} {
		if err := s.Bind(kind, "k", 1); err == nil {
			t.Errorf("kind %q was taken", kind)
		}
	}
	s.Bind("builds", "torn", 1)
	os.WriteFile(s.path("refs", "builds", "torn"), []byte(`{"a`), 0o644)
	var v any
	_, err := s.Lookup("builds", "torn", &v)
	wantFault(t, err, fault.Input, "refs/builds/torn")
}

func TestPartial(t *testing.T) {
	s := open(t)
	data := bytes.Repeat([]byte("0123456789"), 1000)
	d := digestOf(data)
	p, err := s.Partial(t.Context(), d, int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	p.Write(data[:4000])
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Partial(ctx, d, -1); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a second writer got in: %v", err)
	}
	p.Close()
	if p, err = s.Partial(t.Context(), d, -1); err != nil || p.Offset() != 4000 {
		t.Fatalf("resumed at %d, %v", p.Offset(), err)
	}
	p.Write([]byte("wrong bytes"))
	err = p.Commit(t.Context())
	wantFault(t, err, fault.Input, string(d))
	if s.Has(d) || p.Offset() != 0 {
		t.Fatalf("has %v, offset %d after a mismatch", s.Has(d), p.Offset())
	}
	p.Write(data)
	if err := p.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.Close()
	if !s.Has(d) || s.Verify(t.Context(), d) != nil {
		t.Fatal("not there after Commit")
	}
	if left := files(t, s, "partial"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	p, _ = s.Partial(t.Context(), digestOf(nil), -1)
	p.Write([]byte("x"))
	if err := p.Discard(); err != nil || len(files(t, s, "partial")) > 0 {
		t.Errorf("Discard: %v, left %v", err, files(t, s, "partial"))
	}
}

func TestCollect(t *testing.T) {
	s := open(t)
	keep, drop := mustPut(t, s, []byte("keep")), mustPut(t, s, []byte("drop"))
	p, _ := s.Partial(t.Context(), digestOf([]byte("being written")), -1)
	p.Write([]byte("being"))
	defer p.Close()
	q, _ := s.Partial(t.Context(), digestOf([]byte("abandoned")), -1)
	q.Write([]byte("aban"))
	q.Close()
	roots := func() (map[Digest]bool, error) { return map[Digest]bool{keep: true}, nil }

	release, err := s.Pin()
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Collect(t.Context(), roots)
	wantFault(t, err, fault.Host, "is using")
	if !s.Has(drop) {
		t.Fatal("collected under a pin")
	}
	release()

	c, err := s.Collect(t.Context(), roots)
	if err != nil || c.Objects != 2 {
		t.Fatalf("%+v, %v", c, err)
	}
	if !s.Has(keep) || s.Has(drop) {
		t.Errorf("keep %v, drop %v", s.Has(keep), s.Has(drop))
	}
	if got := files(t, s, "partial"); len(got) != 1 {
		t.Errorf("partial downloads: %v", got)
	}
	if _, err := s.Collect(t.Context(), func() (map[Digest]bool, error) { return nil, io.ErrUnexpectedEOF }); !errors.Is(err, io.ErrUnexpectedEOF) || !s.Has(keep) {
		t.Errorf("with unreadable roots: %v, keep %v", err, s.Has(keep))
	}
}

func TestUsageAndCheck(t *testing.T) {
	s := open(t)
	mustPut(t, s, []byte("12345"))
	mustPut(t, s, []byte("678"))
	u, err := s.Usage()
	if err != nil || u.Objects != 2 || u.Bytes != 8 || u.Free <= 0 {
		t.Errorf("%+v, %v", u, err)
	}
	var last, total int64
	c, err := s.Check(t.Context(), func(done, all int64) { last, total = done, all })
	if err != nil || c.Objects != 2 || len(c.Damaged) != 0 || last != 8 || total != 8 {
		t.Errorf("%+v, %v, progress %d of %d", c, err, last, total)
	}
}
