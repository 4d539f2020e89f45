package fetch

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/belljar/belljar/fault"
)

func TestFetchFromAServerThatMisbehaves(t *testing.T) {
	evil := bytes.Clone(payload)
	evil[len(evil)/2] ^= 1
	n := len(payload)
	for _, c := range []struct {
		name     string
		handler  func(*server, http.ResponseWriter, *http.Request)
		kind     fault.Kind // 0: it works all the same
		says     []string
		requests int64 // at most
		bytes    int   // at most
	}{
		{"behaves", content(payload), 0, nil, 1, n},
		{"cut off once: resumed", cutAt(payload, n/2, 1), 0, nil, 2, n},
		{"cut off five times, each time further", cutAt(payload, n/6, 5), 0, nil, 6, n},
		{"cut off for ever without a byte", cutAt(payload, 0, 1e9), fault.Host, []string{"cut off after 0"}, 4, 0},
		{"wrong content", content(evil), fault.Input,
			[]string{"expected sha256 " + string(digestOf(payload)), "got sha256 " + string(digestOf(evil))}, 1, n},
		{"wrong length", content(payload[1:]), fault.Input, []string{string(digestOf(payload)), fmt.Sprintf("(%d bytes), the server offers %d bytes", n, n-1)}, 1, n},
		{"larger than declared", func(_ *server, w http.ResponseWriter, _ *http.Request) {
			for range 100 { // chunked: no length warns
				if _, err := w.Write(payload); err != nil {
					return
				}
				flush(w)
			}
		}, fault.Input, []string{"sends more"}, 1, 40 * n},
		{"empty, with no length", func(_ *server, w http.ResponseWriter, _ *http.Request) { flush(w) },
			fault.Host, []string{"cut off after 0 of"}, 4, 0},
		{"404", status(404), fault.Input, []string{"404"}, 1, 0},
		{"403", status(403), fault.Host, []string{"403"}, 1, 0},
		{"500 for ever", status(500), fault.Host, []string{"500"}, 4, 0},
		{"503 twice", func(s *server, w http.ResponseWriter, r *http.Request) {
			if s.requests.Load() < 3 {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			content(payload)(s, w, r)
		}, 0, nil, 3, n},
		{"stalls before the header", func(_ *server, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
			fault.Host, []string{"stalled: no byte for 750ms"}, 4, 0},
		{"stalls once in the middle", func(s *server, w http.ResponseWriter, r *http.Request) {
			if s.requests.Load() > 1 {
				content(payload)(s, w, r)
				return
			}
			w.Write(payload[:n/2])
			flush(w)
			<-r.Context().Done()
		}, 0, nil, 2, n},
		{"drips, but never stalls", func(_ *server, w http.ResponseWriter, _ *http.Request) {
			for part := range 10 {
				w.Write(payload[part*n/10 : (part+1)*n/10])
				flush(w)
				time.Sleep(100 * time.Millisecond)
			}
		}, 0, nil, 1, n},
		{"ignores Range after a cut", func(s *server, w http.ResponseWriter, r *http.Request) {
			r.Header.Del("Range")
			if s.requests.Load() == 1 {
				cutAt(payload, n/2, 1)(s, w, r)
			}
			content(payload)(s, w, r)
		}, 0, nil, 2, n + n/2},
		{"answers 416 after a cut", func(s *server, w http.ResponseWriter, r *http.Request) {
			switch {
			case s.requests.Load() == 1:
				cutAt(payload, n/2, 1)(s, w, r)
			case r.Header.Get("Range") != "":
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			default:
				content(payload)(s, w, r)
			}
		}, 0, nil, 3, n + n/2},
		{"sends another range than the one asked for", func(s *server, w http.ResponseWriter, r *http.Request) {
			switch {
			case s.requests.Load() == 1:
				cutAt(payload, n/2, 1)(s, w, r)
			case r.Header.Get("Range") != "":
				w.Header().Set("Content-Range", fmt.Sprintf("bytes 10-%d/%d", n-1, n))
				w.WriteHeader(http.StatusPartialContent)
			default:
				content(payload)(s, w, r)
			}
		}, 0, nil, 3, n + n/2},
		{"closes a tail that is another file's", func(s *server, w http.ResponseWriter, r *http.Request) {
			if s.requests.Load() == 1 {
				cutAt(evil, n*3/4, 1)(s, w, r) // the flipped byte is in this part
			}
			content(payload)(s, w, r)
		}, 0, nil, 3, 2 * n},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, c.handler)
			f := newFetcher(t, s.URL+"/debian")
			err := f.Fetch(t.Context(), []Item{item(payload)}, nil)
			if c.kind == 0 {
				if err != nil {
					t.Fatal(err)
				}
				if err := f.Store.Verify(t.Context(), item(payload).Digest); err != nil {
					t.Error(err)
				}
			} else {
				wantFault(t, err, c.kind, append(c.says, s.URL+"/debian/"+poolPath)...)
				nothingStored(t, f)
			}
			if got := s.requests.Load(); got > c.requests {
				t.Errorf("%d requests, want at most %d: %q", got, c.requests, s.ranges)
			}
			if got := s.bytes.Load(); got > int64(c.bytes) {
				t.Errorf("%d bytes served, want at most %d", got, c.bytes)
			}
		})
	}
}
