package main

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"sort"

	"github.com/belljar/belljar/guest-agent/wire"
)

// outputError is what a stage did wrong with its outputs: the script's failure, not the guest's.
type outputError struct{ text string }

func (e *outputError) Error() string { return e.text }

// writeOutputs writes a stage's outputs to its disk, and what they are to res.
func writeOutputs(ctx context.Context, j *jar, st *wire.Stage, res *wire.Result) error {
	root, err := os.OpenRoot(st.OutDir) // no symlink leads out of it
	if err != nil {
		return err
	}
	defer root.Close()
	names := sortedOnce(st.Outputs)
	for _, name := range names { // all of them, before anything is written
		if err := checkOutput(root, name); err != nil {
			return err
		}
	}
	d, err := j.openDisk(st.Device)
	if err != nil {
		return err
	}
	defer d.Close()
	a := newArchive(ctx, d)
	for _, name := range names {
		file, err := a.addOutput(root, name)
		if err != nil {
			return fmt.Errorf("output %s: %w", name, err)
		}
		res.Files = append(res.Files, file)
	}
	res.Stream, err = a.finish(d)
	return err
}

func sortedOnce(names []string) []string {
	all := append([]string(nil), names...)
	sort.Strings(all)
	n := 0
	for i, name := range all {
		if i == 0 || name != all[n-1] {
			all[n] = name
			n++
		}
	}
	return all[:n]
}

func checkOutput(root *os.Root, name string) error {
	info, err := root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &outputError{fmt.Sprintf("output %s is missing: the script ended well but did not make it", name)}
	case err != nil:
		return &outputError{fmt.Sprintf("output %s: %v", name, err)}
	case !info.Mode().IsRegular():
		return &outputError{fmt.Sprintf("output %s is not a regular file but %s", name, info.Mode().Type())}
	}
	return nil
}

// archive writes a tar stream (POSIX.1-2001 pax where ustar does not reach) to a disk and hashes it on the way.
type archive struct {
	ctx context.Context
	tw  *tar.Writer
	buf *bufio.Writer
	sum hash.Hash
	n   int64
	to  io.Writer
}

func newArchive(ctx context.Context, to io.Writer) *archive {
	a := &archive{ctx: ctx, sum: sha256.New(), to: to}
	a.buf = bufio.NewWriterSize(writerFunc(a.write), 1<<20) // whole sectors, many at once
	a.tw = tar.NewWriter(a.buf)
	return a
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func (a *archive) write(p []byte) (int, error) {
	if err := a.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := a.to.Write(p)
	a.sum.Write(p[:n])
	a.n += int64(n)
	return n, err
}

// addOutput adds one file with nothing in its header that differs from one run to the next.
func (a *archive) addOutput(root *os.Root, name string) (wire.File, error) {
	f, err := root.Open(name)
	if err != nil {
		return wire.File{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return wire.File{}, err
	}
	mode := info.Mode().Perm()
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: info.Size(), Mode: int64(mode)}
	sum := sha256.New()
	if err := a.add(h, io.TeeReader(f, sum)); err != nil {
		return wire.File{}, err
	}
	return wire.File{Path: name, Size: h.Size, Mode: uint32(mode), SHA256: hex.EncodeToString(sum.Sum(nil))}, nil
}

// add adds a member; content is read for exactly h.Size bytes.
func (a *archive) add(h *tar.Header, content io.Reader) error {
	if err := a.tw.WriteHeader(h); err != nil {
		return err
	}
	if h.Size == 0 {
		return nil
	}
	_, err := io.CopyN(a.tw, content, h.Size)
	return err
}

// finish ends the archive and waits until all of it is on the disk.
func (a *archive) finish(d *os.File) (wire.Stream, error) {
	if err := a.tw.Close(); err != nil {
		return wire.Stream{}, err
	}
	if err := a.buf.Flush(); err != nil {
		return wire.Stream{}, err
	}
	if err := d.Sync(); err != nil {
		return wire.Stream{}, err
	}
	return wire.Stream{Size: a.n, SHA256: hex.EncodeToString(a.sum.Sum(nil))}, nil
}
