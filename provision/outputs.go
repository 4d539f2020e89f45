package provision

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"strings"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/guest-agent/wire"
	"github.com/belljar/belljar/guest-agent/wire/stream"
)

// Output is one of a stage's outputs on its way into the host.
type Output struct {
	Path string // as the stage names it: of a folder with a slash at its end
	Mode uint32 // permission bits
	Size int64  // of a file in bytes; -1 of a folder, which comes as an archive whose length is not known before
}

// ReadOutputs hands every output of a stage to put, which keeps what it reads. All that were asked for must be on the
// disk and nothing else. A folder comes as a tar archive that is a function of its content: names sorted and relative to
// it, no owners, no times. Only after a nil return may the caller believe what put has seen.
func ReadOutputs(ctx context.Context, disk Disk, outputs []string, s wire.Stream, put func(Output, io.Reader) error) error {
	if len(outputs) == 0 {
		return nil
	}
	r, err := openStream(ctx, disk, s)
	if err != nil {
		return err
	}
	defer r.Close()
	return r.outputs(outputs, put)
}

// outputs hands the stream's outputs to put, one after the other, and holds the whole against what the guest says of it.
func (r *received) outputs(outputs []string, put func(Output, io.Reader) error) error {
	for _, name := range wire.SortedOutputs(outputs) {
		m, err := r.next()
		switch {
		case err != nil:
			return err
		case m.Path != strings.TrimSuffix(name, "/"):
			return fault.New(fault.Guest, readDisk, "it has %q where output %s should be", m.Path, name)
		case wire.IsTree(name) != (m.Type == stream.Dir) || m.Type == stream.Symlink || m.Type == stream.HardLink:
			return fault.New(fault.Guest, readDisk, "output %s is of another type on it (%d)", name, m.Type)
		case m.Type == stream.File && m.Size == stream.Unknown:
			return fault.New(fault.Guest, readDisk, "the length of output %s is not told", name)
		}
		if wire.IsTree(name) {
			err = r.putTree(name, put)
		} else {
			err = put(Output{Path: name, Mode: m.Mode, Size: m.Size}, r)
		}
		if damaged := r.damage(err); damaged != nil {
			return damaged
		}
		if err != nil {
			return err
		}
	}
	return r.end()
}

// putTree has put read the archive of a folder while it is made.
func (r *received) putTree(name string, put func(Output, io.Reader) error) error {
	from, to := io.Pipe()
	made := make(chan error, 1)
	go func() {
		err := r.archive(to, name)
		to.CloseWithError(err)
		made <- err
	}()
	err := put(Output{Path: name, Mode: 0o755, Size: -1}, from)
	from.CloseWithError(errors.New("not wanted any more")) // ends the making of what put left unread
	if broke := <-made; err == nil {
		err = broke
	}
	return err
}

// archive makes a tar archive of the members below a folder.
func (r *received) archive(w io.Writer, top string) error {
	tw := tar.NewWriter(w)
	// The folder itself, so that an empty one has an archive too that is known as such.
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755}); err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	for {
		m, err := r.peek()
		if err != nil {
			return err
		}
		if m == nil || !strings.HasPrefix(m.Path, top) {
			return tw.Close()
		}
		r.m = nil
		h, err := header(m, top)
		if err != nil {
			return err
		}
		if err := tw.WriteHeader(h); err != nil {
			return fault.New(fault.Guest, readDisk, "output %s: %s: %w", top, m.Path, err)
		}
		if m.Type == stream.File {
			if _, err := io.CopyBuffer(tw, r, buf); err != nil {
				return err
			}
		}
	}
}

// header is an archive's, of a member below top.
func header(m *stream.Member, top string) (*tar.Header, error) {
	h := &tar.Header{Name: strings.TrimPrefix(m.Path, top), Mode: int64(m.Mode), Size: m.Size, Linkname: m.Link}
	switch m.Type {
	case stream.Dir:
		h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
	case stream.Symlink:
		h.Typeflag = tar.TypeSymlink
		if wire.LeadsOut(h.Name, m.Link) {
			return nil, fault.New(fault.Guest, readDisk, "output %s: the link %s leads out of it, to %s", top, m.Path, m.Link)
		}
	case stream.HardLink:
		if !strings.HasPrefix(m.Link, top) {
			return nil, fault.New(fault.Guest, readDisk, "output %s: %s is a link to %s, which is not in it", top, m.Path, m.Link)
		}
		h.Typeflag, h.Linkname = tar.TypeLink, strings.TrimPrefix(m.Link, top)
	case stream.File:
		h.Typeflag = tar.TypeReg
		if m.Size == stream.Unknown {
			return nil, fault.New(fault.Guest, readDisk, "output %s: the length of %s is not told", top, m.Path)
		}
	}
	return h, nil
}
