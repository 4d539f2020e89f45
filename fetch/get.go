package fetch

import (
	"bytes"
	"cmp"
	"context"
	"io"
)

// GetChecked brings a file of the Debian archive that nobody has pinned yet (an index), at most maxSize bytes of it, and
// says where it came from. check looks at the content: a mirror whose file does not pass is as good as one that serves
// a wrong file, and the next one is asked. If none passes, the check's own error is in the fault's chain. frozen says
// that the file is a past moment's on purpose, so that its age is nothing to worry about.
func (f *Fetcher) GetChecked(
	ctx context.Context, of State, relpath string, maxSize int64, check func(content []byte, frozen bool) error,
) (content []byte, from string, err error) {
	it := Item{Name: relpath, Size: -1}
	sources, err := f.archiveSources(of.Archive, cmp.Or(of.Snapshot, f.Snapshot), of.Snapshot != "", relpath)
	if err != nil {
		return nil, "", itemFault(it, err)
	}
	var tried []attempt
	for _, src := range f.strongFirst(sources) {
		b, err := f.getFrom(ctx, src, maxSize)
		if err == nil && check != nil {
			frozen := of.Snapshot != "" || src.mirror.stamp() != "" && src.mirror.From != snapshotName
			if err = check(b, frozen); err != nil {
				err = &sourceError{class: wrong, err: err}
			}
		}
		if err == nil {
			return b, redact(src.url), nil
		}
		if isOurs(err) {
			return nil, "", err
		}
		tried = append(tried, attempt{src, err})
	}
	return nil, "", allFailed(it, tried)
}

func (f *Fetcher) getFrom(ctx context.Context, src source, maxSize int64) ([]byte, error) {
	attempts := f.Attempts
	if f.isWeak(src) {
		attempts = 1
	}
	for try := 1; ; try++ {
		b, err := f.getOnce(ctx, src, maxSize)
		if err == nil || isOurs(err) || class(err) != troubled {
			return b, err
		}
		if try >= attempts {
			f.setWeak(src, true)
			return nil, err
		}
		if err := f.pause(ctx, try, 0); err != nil {
			return nil, err
		}
	}
}

func (f *Fetcher) getOnce(ctx context.Context, src source, maxSize int64) ([]byte, error) {
	body, _, total, err := f.open(ctx, src, 0)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	if total > maxSize {
		return nil, trouble(wrong, "%d bytes are offered; expected at most %d", total, maxSize)
	}
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(body, maxSize+1))
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, trouble(troubled, "after %d bytes: %w", n, err)
	case n > maxSize:
		return nil, trouble(wrong, "more than %d bytes are sent", maxSize)
	}
	return b.Bytes(), nil
}
