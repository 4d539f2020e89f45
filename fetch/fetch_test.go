package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/store"
)

func digestOf(b []byte) store.Digest {
	sum := sha256.Sum256(b)
	return store.Digest(hex.EncodeToString(sum[:]))
}

// payload is large enough that a server can cut it in the middle.
var payload = bytes.Repeat([]byte("firmware is software that nobody sees. "), 10000)

const poolPath = "pool/main/g/gcc-12/gcc_12.2.0-14+deb12u1~x.deb"

func item(b []byte) Item {
	return Item{Name: "gcc", Digest: digestOf(b), Size: int64(len(b)), Pool: poolPath, Snapshot: "20250101T000000Z"}
}

// newFetcher makes a fetcher that is in a hurry; roots are mirrors.
func newFetcher(t *testing.T, roots ...string) *Fetcher {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	var m Mirrors
	for _, r := range roots {
		m.List = append(m.List, Mirror{URL: r, From: "test"})
	}
	f := New(s, m)
	f.Backoff, f.Stall = time.Millisecond, 750*time.Millisecond
	t.Cleanup(f.client.CloseIdleConnections)
	return f
}

// server counts what it serves.
type server struct {
	*httptest.Server
	requests atomic.Int64
	bytes    atomic.Int64
	mu       sync.Mutex
	ranges   []string
	paths    []string
}

func serve(t *testing.T, h func(s *server, w http.ResponseWriter, r *http.Request)) *server {
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		s.mu.Lock()
		s.ranges = append(s.ranges, r.Header.Get("Range"))
		s.paths = append(s.paths, r.URL.Path)
		s.mu.Unlock()
		h(s, counting{w, s}, r)
	}))
	t.Cleanup(s.Close)
	return s
}

type counting struct {
	http.ResponseWriter
	s *server
}

func (c counting) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.s.bytes.Add(int64(n))
	return n, err
}

func (c counting) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func flush(w http.ResponseWriter) { http.NewResponseController(w).Flush() }

// content serves b as a well-behaved server does, ranges included.
func content(b []byte) func(*server, http.ResponseWriter, *http.Request) {
	return func(_ *server, w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
	}
}

func status(code int) func(*server, http.ResponseWriter, *http.Request) {
	return func(_ *server, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// cutAt serves the first n bytes of what was asked for and then drops the connection, on the first times requests.
func cutAt(b []byte, n int, times int64) func(*server, http.ResponseWriter, *http.Request) {
	return func(s *server, w http.ResponseWriter, r *http.Request) {
		if s.requests.Load() > times {
			content(b)(s, w, r)
			return
		}
		var from int
		fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
		w.Header().Set("Content-Length", fmt.Sprint(len(b)-from))
		if from > 0 {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(b)-1, len(b)))
			w.WriteHeader(http.StatusPartialContent)
		}
		w.Write(b[from:min(from+n, len(b))])
		flush(w)
		panic(http.ErrAbortHandler)
	}
}

// wantFault checks kind, remedy, and that the report (message and evidence) holds all parts.
func wantFault(t *testing.T, err error, kind fault.Kind, parts ...string) {
	t.Helper()
	if fault.KindOf(err) != kind {
		t.Fatalf("kind %v, want %v: %v", fault.KindOf(err), kind, err)
	}
	e := fault.Chain(err)[0]
	if e.Remedy == "" {
		t.Errorf("no remedy: %v", err)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error lacks %q: %v", p, err)
		}
	}
}

func nothingStored(t *testing.T, f *Fetcher) {
	t.Helper()
	if u, err := f.Store.Usage(); err != nil || u.Objects != 0 {
		t.Errorf("stored: %+v, %v", u, err)
	}
}

func TestFetchGoesOnWhereAnEarlierRunStopped(t *testing.T) {
	n := len(payload)
	broken := serve(t, func(s *server, w http.ResponseWriter, r *http.Request) {
		if s.requests.Load() > 1 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		cutAt(payload, n/3, 1)(s, w, r)
	})
	f := newFetcher(t, broken.URL)
	wantFault(t, f.Fetch(t.Context(), []Item{item(payload)}, nil), fault.Host, "502")
	sound := serve(t, content(payload))
	g := New(f.Store, Mirrors{List: []Mirror{{URL: sound.URL}}})
	if err := g.Fetch(t.Context(), []Item{item(payload)}, nil); err != nil {
		t.Fatal(err)
	}
	if got := sound.bytes.Load(); got != int64(n-n/3) {
		t.Errorf("%d bytes served, want %d: the rest", got, n-n/3)
	}
	if len(sound.ranges) != 1 || sound.ranges[0] != fmt.Sprintf("bytes=%d-", n/3) {
		t.Errorf("ranges %q", sound.ranges)
	}
}

func TestFetchTriesTheNextMirror(t *testing.T) {
	dead := httptest.NewServer(nil)
	dead.Close()
	gone := serve(t, status(404))
	wrong := serve(t, content(bytes.Repeat([]byte("x"), len(payload))))
	good := serve(t, content(payload))
	f := newFetcher(t, dead.URL, gone.URL, wrong.URL, good.URL)
	other := []byte("a second file")
	if err := f.Fetch(t.Context(), []Item{item(payload)}, nil); err != nil {
		t.Fatal(err)
	}
	wantFault(t, f.Fetch(t.Context(), []Item{item(other)}, nil), fault.Input,
		dead.URL, gone.URL, wrong.URL, good.URL, string(digestOf(other)))
	if good.requests.Load() != 2 {
		t.Errorf("%d requests at the good mirror", good.requests.Load())
	}
}

func TestFetchEndsAtTheSnapshotArchive(t *testing.T) {
	snapshot := serve(t, content(payload))
	f := newFetcher(t, serve(t, status(404)).URL)
	f.Mirrors.SnapshotURL = snapshot.URL + "/archive"
	security := item([]byte("no mirror has the security archive"))
	security.Archive = "debian-security"
	if err := f.Fetch(t.Context(), []Item{item(payload)}, nil); err != nil {
		t.Fatal(err)
	}
	wantFault(t, f.Fetch(t.Context(), []Item{security}, nil), fault.Input)
	want := "/archive/debian/20250101T000000Z/" + poolPath + " /archive/debian-security/20250101T000000Z/" + poolPath
	if got := strings.Join(snapshot.paths, " "); got != want {
		t.Errorf("asked for %s\nwant %s", got, want)
	}
}

func TestFetchFromAFolder(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, poolPath)
	os.MkdirAll(filepath.Dir(file), 0o755)
	os.WriteFile(file, payload, 0o644)
	f := newFetcher(t, "file://"+dir)
	if err := f.Fetch(t.Context(), []Item{item(payload)}, nil); err != nil {
		t.Fatal(err)
	}
	direct := Item{Name: "direct", Digest: digestOf([]byte("tarball")), URL: "file://" + dir + "/t.tar"}
	wantFault(t, f.Fetch(t.Context(), []Item{direct}, nil), fault.Input, "t.tar")
	os.WriteFile(dir+"/t.tar", []byte("tarball"), 0o644)
	if err := f.Fetch(t.Context(), []Item{direct}, nil); err != nil {
		t.Error(err)
	}
}

func TestFetchSkipsWhatIsThere(t *testing.T) {
	s := serve(t, content(payload))
	f := newFetcher(t, s.URL)
	var last Progress
	calls := 0
	tell := func(p Progress) { last = p; calls++ }
	twice := []Item{item(payload), item(payload)}
	for range 2 {
		if err := f.Fetch(t.Context(), twice, tell); err != nil {
			t.Fatal(err)
		}
		want := Progress{Files: 2, FilesTotal: 2, Bytes: int64(2 * len(payload)), BytesTotal: int64(2 * len(payload)), Current: "gcc"}
		last.From = ""
		if last != want {
			t.Errorf("last progress %+v, want %+v", last, want)
		}
	}
	if s.requests.Load() != 1 {
		t.Errorf("%d requests", s.requests.Load())
	}
}

func TestFetchIsParallelAndBounded(t *testing.T) {
	var now, peak atomic.Int64
	s := serve(t, func(_ *server, w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for p := peak.Load(); n > p && !peak.CompareAndSwap(p, n); p = peak.Load() {
		}
		time.Sleep(50 * time.Millisecond)
		fmt.Fprint(w, filepath.Base(r.URL.Path))
	})
	f := newFetcher(t, s.URL)
	var items []Item
	for i := range 12 {
		name := fmt.Sprintf("file%02d", i)
		items = append(items, Item{Name: name, Digest: digestOf([]byte(name)), Size: 6, Pool: "pool/" + name})
	}
	if err := f.Fetch(t.Context(), items, nil); err != nil {
		t.Fatal(err)
	}
	if peak.Load() != 4 {
		t.Errorf("%d at once, want 4", peak.Load())
	}
}

func TestFetchIsCancelled(t *testing.T) {
	s := serve(t, func(_ *server, w http.ResponseWriter, r *http.Request) {
		w.Write(payload[:1000])
		flush(w)
		<-r.Context().Done()
	})
	f := newFetcher(t, s.URL)
	f.Stall = time.Minute
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	start := time.Now()
	if err := f.Fetch(ctx, []Item{item(payload)}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
	p, err := f.Store.Partial(t.Context(), item(payload).Digest, -1)
	if err != nil || p.Offset() != 1000 {
		t.Errorf("kept %d bytes, %v; want 1000 for the next run", p.Offset(), err)
	}
	p.Close()
}

func TestFetchRefusesBadItems(t *testing.T) {
	good := item(payload)
	for _, c := range []struct {
		name string
		edit func(*Item)
		says string
	}{
		{"no digest", func(i *Item) { i.Digest = "" }, "0 characters"},
		{"no place", func(i *Item) { i.Pool = "" }, "pool path or a URL"},
		{"two places", func(i *Item) { i.URL = "http://mirror.example/f" }, "pool path or a URL"},
		{"path upwards", func(i *Item) { i.Pool = "../../etc/passwd" }, "no '..'"},
		{"absolute path", func(i *Item) { i.Pool = "/etc/passwd" }, "relative"},
		{"odd scheme", func(i *Item) { i.Pool, i.URL = "", "gopher://mirror.example/f" }, "expected http"},
		{"bad time stamp", func(i *Item) { i.Snapshot = "yesterday" }, "20250101T000000Z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			it := good
			c.edit(&it)
			wantFault(t, newFetcher(t, "http://mirror.example/debian").Fetch(t.Context(), []Item{it}, nil), fault.Input, c.says)
		})
	}
	wantFault(t, newFetcher(t).Fetch(t.Context(), []Item{good}, nil), fault.Input, "no mirror")
}

func TestGet(t *testing.T) {
	stale := serve(t, content([]byte("stale index")))
	fresh := serve(t, content([]byte("fresh index")))
	f := newFetcher(t, serve(t, status(404)).URL, stale.URL, fresh.URL)
	const name = "dists/bookworm/InRelease"
	got, from, err := f.GetChecked(t.Context(), State{}, name, 100, nil)
	if err != nil || string(got) != "stale index" || from != stale.URL+"/"+name {
		t.Errorf("%q from %s, %v", got, from, err)
	}
	errStale := errors.New("signature is not valid")
	got, from, err = f.GetChecked(t.Context(), State{}, name, 100, func(b []byte, _ bool) error {
		if bytes.HasPrefix(b, []byte("stale")) {
			return errStale
		}
		return nil
	})
	if err != nil || string(got) != "fresh index" || !strings.HasPrefix(from, fresh.URL) {
		t.Errorf("%q from %s, %v", got, from, err)
	}
	_, _, err = f.GetChecked(t.Context(), State{}, name, 100, func([]byte, bool) error { return errStale })
	wantFault(t, err, fault.Input, stale.URL, "signature is not valid")
	if !errors.Is(err, errStale) {
		t.Errorf("the check's error is not in the chain: %v", err)
	}
	_, _, err = f.GetChecked(t.Context(), State{}, name, 5, nil)
	wantFault(t, err, fault.Input, "at most 5")
}

func TestGetVerifiedFindsTheFileByItsHash(t *testing.T) {
	d := digestOf(payload)
	s := serve(t, func(s *server, w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/by-hash/SHA256/"+string(d)) {
			content(payload)(s, w, r)
			return
		}
		content([]byte("the next version of the index"))(s, w, r)
	})
	f := newFetcher(t, s.URL)
	if err := f.GetVerified(t.Context(), State{}, "dists/bookworm/main/binary-amd64/Packages.xz", d, int64(len(payload))); err != nil {
		t.Fatal(err)
	}
	if !f.Store.Has(d) {
		t.Error("not stored")
	}
}

func TestProxyOfTheMirror(t *testing.T) {
	proxy := serve(t, func(s *server, w http.ResponseWriter, r *http.Request) {
		if r.URL.Host != "mirror.example" {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		content(payload)(s, w, r)
	})
	f := newFetcher(t)
	f.Mirrors.List = []Mirror{{URL: "http://mirror.example/debian", Proxy: proxy.URL}}
	if err := f.Fetch(t.Context(), []Item{item(payload)}, nil); err != nil {
		t.Fatal(err)
	}
}

func TestParseContentRange(t *testing.T) {
	for in, want := range map[string][2]int64{
		"bytes 5-9/10": {5, 10}, "bytes 0-0/*": {0, -1},
		"": {-9}, "bytes */10": {-9}, "bytes 9-5/10": {-9}, "bytes 5-10/10": {-9}, "items 5-9/10": {-9}, "bytes -5-9/10": {-9},
	} {
		start, total, err := parseContentRange(in)
		if want[0] == -9 {
			if err == nil {
				t.Errorf("%q was taken", in)
			}
		} else if err != nil || start != want[0] || total != want[1] {
			t.Errorf("%q: %d, %d, %v", in, start, total, err)
		}
	}
}
