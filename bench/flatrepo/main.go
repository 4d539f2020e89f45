// Command flatrepo lays the locked packages of a guest, from Belljar's store, into a folder that apt reads as a flat
// repository (sources.list(5): a suite that ends in '/'), so that other image makers can be run on the same packages.
//
// It knows the lock, the store and the form of a Packages file. It copies nothing: pool/ holds links into the store.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/belljar/belljar/image/debian"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/store"
)

const usage = "usage: scripts/flat-repo BELLJARDIR SPEC GUEST FOLDER"

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "flat-repo:", err)
		os.Exit(1)
	}
}

// run writes FOLDER/pool/*.deb, FOLDER/Packages, and FOLDER/names: the packages, one a line, as NAME=VERSION.
// The kernel is left out: a guest's image does not hold it.
func run(ctx context.Context, args []string) error {
	if len(args) != 4 {
		return errors.New(usage)
	}
	dir, guest, folder := args[0], args[2], args[3]
	spec, err := specs.Load(args[1])
	if err != nil {
		return err
	}
	lock, err := specs.LoadLock(spec, "")
	if err != nil {
		return err
	}
	locked := lock.Guests[guest]
	if locked == nil {
		return fmt.Errorf("the lock of %s has no guest %s", args[1], guest)
	}
	st, err := store.Open(filepath.Join(dir, "store"))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(folder, "pool"), 0o755); err != nil {
		return err
	}
	var index, names bytes.Buffer
	for _, p := range locked.Packages {
		if p.Kernel {
			continue
		}
		control, err := controlOf(ctx, st, p)
		if err != nil {
			return err
		}
		file := fmt.Sprintf("pool/%s_%s_%s.deb", p.Name, strings.ReplaceAll(p.Version, ":", "%3a"), p.Arch)
		fmt.Fprintf(&index, "%s\nFilename: ./%s\nSize: %d\nSHA256: %s\n\n",
			bytes.TrimRight(control, "\n"), file, p.Size, p.SHA256)
		fmt.Fprintf(&names, "%s=%s\n", p.Name, p.Version)
		link := filepath.Join(folder, file)
		if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := os.Symlink(st.Path(store.Digest(p.SHA256)), link); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(folder, "Packages"), index.Bytes(), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, "names"), names.Bytes(), 0o644)
}

// controlOf reads a package's control paragraph; the package is verified against the lock on the way.
func controlOf(ctx context.Context, st *store.Store, p specs.Package) ([]byte, error) {
	var control []byte
	err := st.Stream(ctx, store.Digest(p.SHA256), func(r io.Reader) error {
		deb, err := debian.OpenDebNamed(p.Name, bufio.NewReader(r))
		if err != nil {
			return err
		}
		defer deb.Close()
		control = deb.Control()["control"]
		return nil
	})
	return control, err
}
