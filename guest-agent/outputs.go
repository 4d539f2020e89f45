package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/guest-agent/wire"
	"github.com/belljar/belljar/guest-agent/wire/stream"
)

// outputError is what a stage did wrong with its outputs: the script's failure, not the guest's.
type outputError struct{ text string }

func (e *outputError) Error() string { return e.text }

func badOutput(format string, args ...any) error { return &outputError{fmt.Sprintf(format, args...)} }

// writeOutputs writes a stage's outputs to its disk, and says on the way how much of them is there.
func writeOutputs(ctx context.Context, j *jar, st *wire.Stage, written func(int64)) (wire.Stream, error) {
	root, err := os.OpenRoot(st.OutDir) // no symlink leads out of it
	if err != nil {
		return wire.Stream{}, err
	}
	defer root.Close()
	var members []stream.Member
	for _, name := range wire.SortedOutputs(st.Outputs) { // all of them, before anything is written
		found, err := findOutput(root, name)
		if err != nil {
			return wire.Stream{}, err
		}
		members = append(members, found...)
	}
	return writeStream(ctx, j, st.Device, written, func(w *stream.Writer) error {
		for _, m := range members {
			if err := writeMember(w, root, m); err != nil {
				return err
			}
		}
		return nil
	})
}

// tellAfter is how much is written before the host is told, in bytes: each word costs as much as some MiB.
const tellAfter = 32 << 20

// writeStream writes what fill makes to the disk with a serial number, and waits until all of it is there. It tells written,
// if there is one, how much is.
func writeStream(ctx context.Context, j *jar, serial string, written func(int64), fill func(*stream.Writer) error) (wire.Stream, error) {
	d, err := j.openDisk(serial)
	if err != nil {
		return wire.Stream{}, err
	}
	defer d.Close()
	var at, told int64
	w := stream.NewWriter(writerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		n, err := d.Write(p)
		if at += int64(n); err == nil && written != nil && at-told >= tellAfter {
			told = at
			written(at)
		}
		return n, err
	}))
	err = fill(w)
	total, end := w.Close()
	if err == nil {
		err = end
	}
	switch {
	case errors.Is(err, unix.ENOSPC):
		size, _ := d.Seek(0, io.SeekEnd)
		return wire.Stream{}, badOutput("the outputs take more than the %d bytes of the output disk", size)
	case errors.Is(err, stream.ErrTooMuch):
		return wire.Stream{}, badOutput("the outputs have %v", err)
	case err != nil:
		return wire.Stream{}, err
	}
	if err := d.Sync(); err != nil {
		return wire.Stream{}, err
	}
	return wire.Stream{Size: total.Size, Digest: total.Digest}, nil
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// writeMember writes a member that findOutput found. A file is read once, and must be the same after as before.
func writeMember(w *stream.Writer, root *os.Root, m stream.Member) error {
	if m.Type != stream.File {
		return w.Member(m)
	}
	f, err := root.Open(m.Path)
	if err != nil {
		return fmt.Errorf("output %s: %w", m.Path, err)
	}
	defer f.Close()
	before, err := stateOf(f)
	if err != nil {
		return fmt.Errorf("output %s: %w", m.Path, err)
	}
	m.Size = before.size
	if err := w.Member(m); err != nil {
		return err
	}
	err = writeSparse(w, f, m.Size)
	after, errAfter := stateOf(f)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errAfter == nil && after != before:
		return badOutput("output %s changed while it was read: %s before, %s after", m.Path, before, after)
	case err != nil || errAfter != nil:
		return fmt.Errorf("output %s: %w", m.Path, errors.Join(err, errAfter))
	}
	return nil
}

// fileState is what a change of a file shows in.
type fileState struct {
	size         int64
	mtime, ctime unix.Timespec
}

func (s fileState) String() string {
	return fmt.Sprintf("%d bytes of time %d.%09d", s.size, int64(s.mtime.Sec), int64(s.mtime.Nsec)) //nolint:unconvert // 32 bits wide on i386
}

func stateOf(f *os.File) (fileState, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fileState{}, err
	}
	return fileState{st.Size, st.Mtim, st.Ctim}, nil
}

// writeSparse writes the first size bytes of a file, its holes as holes (lseek(2): SEEK_DATA, SEEK_HOLE).
func writeSparse(w *stream.Writer, f *os.File, size int64) error {
	for at := int64(0); at < size; {
		data, err := f.Seek(at, unix.SEEK_DATA)
		switch {
		case errors.Is(err, unix.ENXIO): // none is left
			return w.Hole(size - at)
		case errors.Is(err, unix.EINVAL): // a filesystem without holes
			data = at
		case err != nil:
			return err
		}
		end, err := f.Seek(data, unix.SEEK_HOLE)
		if err != nil || end > size {
			end = size
		}
		if data >= size {
			return w.Hole(size - at)
		}
		if err := w.Hole(data - at); err != nil {
			return err
		}
		if _, err := f.Seek(data, io.SeekStart); err != nil {
			return err
		}
		if err := w.Fill(f, end-data); err != nil {
			return err
		}
		at = end
	}
	return nil
}
