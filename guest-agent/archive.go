package main

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"io"

	"github.com/belljar/belljar/guest-agent/wire"
	"github.com/belljar/belljar/guest-agent/wire/stream"
)

// archiveName is the one member of a stream that holds an archive.
const archiveName = "archive.tar"

// writeArchive writes a tar archive (POSIX.1-2001 pax where ustar does not reach) to a disk, as a stream's one member.
func writeArchive(ctx context.Context, j *jar, serial string, fill func(*tar.Writer) error) (wire.Stream, error) {
	return writeStream(ctx, j, serial, nil, func(w *stream.Writer) error {
		if err := w.Member(stream.Member{Path: archiveName, Type: stream.File, Mode: 0o644, Size: stream.Unknown}); err != nil {
			return err
		}
		buf := bufio.NewWriterSize(w, 256<<10) // a header of 512 bytes is not worth a frame
		tw := tar.NewWriter(buf)
		if err := fill(tw); err != nil {
			return err
		}
		return errors.Join(tw.Close(), buf.Flush())
	})
}

// addMember adds a member; content is read for exactly h.Size bytes.
func addMember(tw *tar.Writer, h *tar.Header, content io.Reader) error {
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	if h.Size == 0 {
		return nil
	}
	_, err := io.CopyN(tw, content, h.Size)
	return err
}
