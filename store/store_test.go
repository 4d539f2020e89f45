package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/belljar/belljar/fault"
	"golang.org/x/sys/unix"
)

func open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func digestOf(b []byte) Digest {
	sum := sha256.Sum256(b)
	return Digest(hex.EncodeToString(sum[:]))
}

func mustPut(t *testing.T, s *Store, b []byte) Digest {
	t.Helper()
	d, n, err := s.Put(t.Context(), bytes.NewReader(b), digestOf(b), int64(len(b)))
	if err != nil || n != int64(len(b)) {
		t.Fatalf("Put: %d bytes, %v", n, err)
	}
	return d
}

// files lists what is in a folder of the store, so that tests can say 'nothing is left'.
func files(t *testing.T, s *Store, folder string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(s.path(folder), func(p string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			names = append(names, filepath.Base(p))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func wantFault(t *testing.T, err error, kind fault.Kind, parts ...string) {
	t.Helper()
	if fault.KindOf(err) != kind {
		t.Fatalf("kind %v, want %v: %v", fault.KindOf(err), kind, err)
	}
	remedy := ""
	for _, e := range fault.Chain(err) {
		remedy += e.Remedy
	}
	if remedy == "" {
		t.Errorf("no remedy: %v", err)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error lacks %q: %v", p, err)
		}
	}
}

func TestParseDigest(t *testing.T) {
	good := strings.Repeat("0a", 32)
	for _, c := range []struct {
		name, in, says string
	}{
		{"good", good, ""},
		{"empty", "", "0 characters"},
		{"short", good[1:], "63 characters"},
		{"long", good + "0", "65 characters"},
		{"upper case", strings.ToUpper(good), "character 2 is 'A'"},
		{"path", "../" + good[3:], "character 1 is '.'"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseDigest(c.in)
			if c.says == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %v, want %q", err, c.says)
			}
		})
	}
}

func TestPutVerifiesOnTheWayIn(t *testing.T) {
	data := []byte("a bell jar is a glass vessel")
	d := digestOf(data)
	other := digestOf([]byte("another"))
	for _, c := range []struct {
		name string
		want Digest
		size int64
		says []string // empty: it is accepted
	}{
		{"anything", "", -1, nil},
		{"digest and size", d, int64(len(data)), nil},
		{"wrong digest", other, -1, []string{string(other), string(d)}},
		{"wrong digest, right size", other, int64(len(data)), []string{string(other), string(d), "28 bytes"}},
		{"too long", d, 27, []string{"27 bytes", "at least 28 bytes"}},
		{"too short", d, 29, []string{"29 bytes", "28 bytes"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t)
			got, n, err := s.Put(t.Context(), bytes.NewReader(data), c.want, c.size)
			if c.says == nil {
				if err != nil || got != d || n != int64(len(data)) || !s.Has(d) {
					t.Fatalf("got %s, %d, %v; has %v", got, n, err, s.Has(d))
				}
				return
			}
			wantFault(t, err, fault.Input, c.says...)
			if left := append(files(t, s, "objects"), files(t, s, "tmp")...); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestPutOfABrokenReaderLeavesNothing(t *testing.T) {
	s := open(t)
	cut := errors.New("cut")
	_, _, err := s.Put(t.Context(), io.MultiReader(strings.NewReader("begin"), iotest.ErrReader(cut)), "", -1)
	if !errors.Is(err, cut) {
		t.Fatalf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.Put(ctx, strings.NewReader("x"), "", -1); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled Put: %v", err)
	}
	if left := append(files(t, s, "objects"), files(t, s, "tmp")...); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// damage lists what disks do to files; each must be seen on the way out by every way out.
var damage = []struct {
	name string
	do   func([]byte) []byte
}{
	{"flipped bit", func(b []byte) []byte { b[len(b)/2] ^= 1; return b }},
	{"truncated", func(b []byte) []byte { return b[:len(b)-1] }},
	{"emptied", func([]byte) []byte { return nil }},
	{"grown", func(b []byte) []byte { return append(b, 0) }},
}

func TestDamagedObjectNeverPasses(t *testing.T) {
	ways := []struct {
		name string
		read func(*Store, Digest) error
	}{
		{"Open", func(s *Store, d Digest) error {
			r, err := s.Open(d)
			if err != nil {
				return err
			}
			defer r.Close()
			_, err = io.Copy(io.Discard, r)
			return err
		}},
		{"ReadAll", func(s *Store, d Digest) error { _, err := s.ReadAll(d); return err }},
		{"Verify", func(s *Store, d Digest) error { return s.Verify(context.Background(), d) }},
		{"Stream that stops early", func(s *Store, d Digest) error {
			return s.Stream(context.Background(), d, func(r io.Reader) error {
				_, err := r.Read(make([]byte, 1))
				return err
			})
		}},
		{"Check", func(s *Store, d Digest) error {
			c, err := s.Check(context.Background(), nil)
			if err != nil || len(c.Damaged) != 1 || c.Damaged[0] != d {
				return errors.Join(errors.New("Check saw nothing"), err)
			}
			return &fault.Error{Kind: fault.Input, Err: errors.New("is damaged"), Remedy: "x"}
		}},
	}
	data := bytes.Repeat([]byte("stored object "), 20000)
	for _, dmg := range damage {
		for _, way := range ways {
			t.Run(dmg.name+"/"+way.name, func(t *testing.T) {
				s := open(t)
				d := mustPut(t, s, data)
				if way.name != "Check" {
					if err := way.read(s, d); err != nil {
						t.Fatalf("sound object: %v", err)
					}
				}
				if err := os.Chmod(s.Path(d), 0o644); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(s.Path(d), dmg.do(bytes.Clone(data)), 0o644); err != nil {
					t.Fatal(err)
				}
				wantFault(t, way.read(s, d), fault.Input, "is damaged")
				if s.Has(d) {
					t.Error("the damaged object is still there")
				}
				if got := files(t, s, "damaged"); len(got) != 1 {
					t.Errorf("moved aside: %v", got)
				}
				mustPut(t, s, data)
				if err := s.Verify(t.Context(), d); err != nil {
					t.Errorf("after Put mended it: %v", err)
				}
			})
		}
	}
}

func TestPutMendsDamageThatNobodySawYet(t *testing.T) {
	s := open(t)
	data := []byte("mend me")
	d := mustPut(t, s, data)
	os.Chmod(s.Path(d), 0o644)
	os.WriteFile(s.Path(d), []byte("mend xe"), 0o644)
	mustPut(t, s, data)
	if err := s.Verify(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

func TestMissingObject(t *testing.T) {
	s := open(t)
	d := digestOf([]byte("absent"))
	_, err := s.Open(d)
	wantFault(t, err, fault.Input, string(d), "not in the store")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("fs.ErrNotExist is not in the chain of %v", err)
	}
	if s.Has(d) || s.Has("") || s.Has("../../etc/passwd") {
		t.Error("Has says yes")
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(t *testing.T, dir string)
		kind fault.Kind
		says string
	}{
		{"a folder of something else", func(t *testing.T, dir string) {
			os.MkdirAll(filepath.Join(dir, "photos"), 0o755)
		}, fault.Input, "is not a store"},
		{"another program's version file", func(t *testing.T, dir string) {
			os.MkdirAll(dir, 0o755)
			os.WriteFile(filepath.Join(dir, "version"), []byte("2.0\n"), 0o644)
		}, fault.Input, `says "2.0"`},
		{"a newer format", func(t *testing.T, dir string) {
			os.MkdirAll(dir, 0o755)
			os.WriteFile(filepath.Join(dir, "version"), []byte("belljar store 2\n"), 0o644)
		}, fault.Input, "format"},
		{"a file", func(t *testing.T, dir string) {
			os.WriteFile(dir, nil, 0o644)
		}, fault.Host, "is a file"},
		{"a link to a file", func(t *testing.T, dir string) {
			os.WriteFile(filepath.Dir(dir)+"/f", nil, 0o644)
			os.Symlink("f", dir)
		}, fault.Host, ""},
		{"a link to a folder of something else", func(t *testing.T, dir string) {
			os.Symlink("/proc/self", dir)
		}, fault.Input, "is not a store"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			c.make(t, dir)
			_, err := Open(dir)
			wantFault(t, err, c.kind, c.says)
		})
	}
	t.Run("not writable", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "ro")
		os.Mkdir(dir, 0o555)
		_, err := Open(filepath.Join(dir, "store"))
		if os.Getuid() == 0 {
			err = hostFault("open store", dir, -1, &fs.PathError{Op: "mkdir", Path: dir, Err: unix.EACCES}) // root may write anywhere
		}
		wantFault(t, err, fault.Host, "may not write", dir)
	})
}
