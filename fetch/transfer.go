package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/belljar/belljar/store"
)

// maxUnknown bounds a file whose size nobody pinned.
const maxUnknown = 16 << 30

// maxTries bounds the tries of one URL even if each brings a few bytes.
const maxTries = 40

// fault classes of a source, from 'ask again' to 'it has the wrong file'.
const (
	troubled = iota // network, 5xx, cut off: worth another try
	refused         // an answer that will not change: 403, unsupported
	absent          // 404
	wrong           // content that is not the pinned one
)

// sourceError is a failure that is the source's, so that the next one is worth a try.
type sourceError struct {
	class int
	after time.Duration // the server's Retry-After
	err   error
}

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

func trouble(class int, format string, args ...any) error {
	return &sourceError{class: class, err: fmt.Errorf(format, args...)}
}

// fromSource brings the file from one source: it resumes, retries and verifies.
func (f *Fetcher) fromSource(ctx context.Context, src source, it Item, p *store.Partial, m *meter) error {
	attempts := f.Attempts
	if f.isWeak(src) {
		attempts = 1
	}
	for idle, tries := 0, 0; ; tries++ {
		before := p.Offset()
		err := f.transfer(ctx, src, it, p, m)
		if err == nil {
			if err = f.commit(ctx, p); err == nil {
				f.setWeak(src, false)
				return nil
			}
			if isWrong(err) && before > 0 { // perhaps what was there before is to blame: once more from the start
				m.at(it, 0, redact(src.url))
				continue
			}
		}
		se, ok := errors.AsType[*sourceError](err)
		if !ok || se.class != troubled {
			if ok && se.class == wrong {
				err = errors.Join(err, p.Reset())
			}
			return err
		}
		if p.Offset() > before {
			idle = 0
		}
		if idle++; idle >= attempts || tries >= maxTries {
			f.setWeak(src, true)
			return err
		}
		if err := f.pause(ctx, idle, se.after); err != nil {
			return err
		}
	}
}

func isWrong(err error) bool {
	se, ok := errors.AsType[*sourceError](err)
	return ok && se.class == wrong
}

// commit verifies; wrong content is the source's failure, a full disk is not.
func (f *Fetcher) commit(ctx context.Context, p *store.Partial) error {
	err := p.Commit(ctx)
	if m, ok := errors.AsType[*store.Mismatch](err); ok {
		return trouble(wrong, "wrong content: %w", m)
	}
	return err
}

// pause waits before try number n.
func (f *Fetcher) pause(ctx context.Context, n int, atLeast time.Duration) error {
	wait := max(f.Backoff<<min(n-1, 5), min(atLeast, 30*time.Second))
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(wait):
		return nil
	}
}

// transfer appends what the source has from p's offset on; nil means that the body ended where it should.
func (f *Fetcher) transfer(ctx context.Context, src source, it Item, p *store.Partial, m *meter) error {
	limit := it.Size
	if limit < 0 {
		limit = maxUnknown
	}
	if p.Offset() > limit {
		if err := p.Reset(); err != nil {
			return err
		}
	}
	if it.Size >= 0 && p.Offset() == it.Size {
		return nil
	}
	body, start, total, err := f.open(ctx, src, p.Offset())
	if err != nil {
		if errors.Is(err, errRange) {
			return errors.Join(err, p.Reset())
		}
		return err
	}
	defer body.Close()
	if total >= 0 && it.Size >= 0 && total != it.Size {
		return trouble(wrong, "wrong content: expected %s, the server offers %d bytes", pinned(it, limit), total)
	}
	m.learn(it, total)
	if start != p.Offset() {
		if err := p.Reset(); err != nil {
			return err
		}
	}
	return pour(ctx, p, body, it, limit, total, func() { m.at(it, p.Offset(), redact(src.url)) })
}

// pinned says what was expected, for people.
func pinned(it Item, limit int64) string {
	if it.Size < 0 {
		return fmt.Sprintf("sha256 %s (at most %d bytes)", it.Digest, limit)
	}
	return fmt.Sprintf("sha256 %s (%d bytes)", it.Digest, it.Size)
}

// pour copies body to p, and tells a source's failure from the disk's.
func pour(ctx context.Context, p *store.Partial, body io.Reader, it Item, limit, total int64, tick func()) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := body.Read(buf)
		if p.Offset()+int64(n) > limit {
			return trouble(wrong, "wrong content: expected %s, the server sends more", pinned(it, limit))
		}
		if n > 0 {
			if _, err := p.Write(buf[:n]); err != nil {
				return err
			}
			tick()
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			if total < 0 {
				total = it.Size
			}
			if p.Offset() < total {
				return trouble(troubled, "cut off after %d of %d bytes", p.Offset(), total)
			}
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, io.ErrUnexpectedEOF):
			return trouble(troubled, "cut off after %d bytes: %w", p.Offset(), err)
		default:
			return trouble(troubled, "after %d bytes: %w", p.Offset(), err)
		}
	}
}

// errRange: the server will not serve the range, what is there already cannot be its file's beginning.
var errRange = errors.New("the server cannot continue there")

// open asks the source for its bytes from offset on. start is where the body really begins, total the whole file's
// length or -1.
func (f *Fetcher) open(
	ctx context.Context, src source, offset int64,
) (body io.ReadCloser, start, total int64, err error) {
	u, err := url.Parse(src.url)
	if err != nil {
		return nil, 0, 0, trouble(refused, "%w", err)
	}
	if u.Scheme == "file" {
		return openFile(u.Path, offset)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	w := newWatchdog(f.Stall, cancel)
	defer func() {
		if err != nil {
			w.stop()
			cancel(nil)
		}
	}()
	req, err := http.NewRequestWithContext(withProxy(ctx, src.mirror.Proxy), http.MethodGet, src.url, nil)
	if err != nil {
		return nil, 0, 0, trouble(refused, "%w", err)
	}
	req.Header.Set("User-Agent", "belljar")
	req.Header.Set("Accept-Encoding", "identity") // the digest is of the file, not of a server's compression of it
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	res, err := f.client.Do(req)
	if err != nil {
		return nil, 0, 0, netError(ctx, err)
	}
	start, total, err = position(res, offset)
	if err != nil {
		res.Body.Close()
		return nil, 0, 0, err
	}
	return &watched{res.Body, ctx, cancel, w}, start, total, nil
}

// position reads the status line and the range headers, RFC 9110 sections 14.4 and 15.
func position(res *http.Response, offset int64) (start, total int64, err error) {
	switch code := res.StatusCode; {
	case code == http.StatusOK:
		return 0, res.ContentLength, nil
	case code == http.StatusPartialContent && offset > 0:
		start, total, err := parseContentRange(res.Header.Get("Content-Range"))
		if err != nil || start != offset {
			return 0, 0, trouble(troubled, "asked for bytes from %d on, got Content-Range %q: %w",
				offset, res.Header.Get("Content-Range"), errRange)
		}
		return start, total, nil
	case code == http.StatusRequestedRangeNotSatisfiable:
		return 0, 0, trouble(troubled, "HTTP %s from byte %d on: %w", res.Status, offset, errRange)
	case code == http.StatusNotFound || code == http.StatusGone:
		return 0, 0, trouble(absent, "HTTP %s", res.Status)
	case code >= 500 || code == http.StatusTooManyRequests || code == http.StatusRequestTimeout:
		after, _ := strconv.Atoi(res.Header.Get("Retry-After"))
		wait := time.Duration(max(after, 0)) * time.Second
		return 0, 0, &sourceError{troubled, wait, fmt.Errorf("HTTP %s", res.Status)}
	}
	return 0, 0, trouble(refused, "HTTP %s", res.Status)
}

// parseContentRange reads 'bytes FIRST-LAST/TOTAL'; a total of '*' is -1.
func parseContentRange(s string) (start, total int64, err error) {
	bad := fmt.Errorf("Content-Range %q: expected 'bytes FIRST-LAST/TOTAL'", s)
	rest, ok := strings.CutPrefix(s, "bytes ")
	first, rest, ok1 := strings.Cut(rest, "-")
	last, whole, ok2 := strings.Cut(rest, "/")
	if !ok || !ok1 || !ok2 {
		return 0, 0, bad
	}
	start, err1 := strconv.ParseInt(first, 10, 64)
	end, err2 := strconv.ParseInt(last, 10, 64)
	total = -1
	var err3 error
	if whole != "*" {
		total, err3 = strconv.ParseInt(whole, 10, 64)
	}
	if err1 != nil || err2 != nil || err3 != nil || start < 0 || end < start || (whole != "*" && total <= end) {
		return 0, 0, bad
	}
	return start, total, nil
}

func openFile(path string, offset int64) (io.ReadCloser, int64, int64, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, 0, trouble(absent, "%w", err)
	}
	if err != nil {
		return nil, 0, 0, trouble(refused, "%w", err)
	}
	fi, err := file.Stat()
	if err != nil || !fi.Mode().IsRegular() {
		file.Close()
		return nil, 0, 0, trouble(refused, "%s is not a regular file", path)
	}
	if offset > fi.Size() {
		offset = 0
	}
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		file.Close()
		return nil, 0, 0, trouble(refused, "%w", err)
	}
	return file, offset, fi.Size(), nil
}

// netError tells the caller's cancellation from the network's failure.
func netError(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if errors.Is(cause, errStalled) {
		return trouble(troubled, "%w", cause)
	}
	if cause != nil {
		return cause
	}
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err // its URL is named by our own message
	}
	if de, ok := errors.AsType[*net.DNSError](err); ok && de.IsNotFound {
		return trouble(troubled, "host %s is unknown: %w", de.Name, err)
	}
	return trouble(troubled, "%w", err)
}
