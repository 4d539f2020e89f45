package fetch

import (
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/belljar/belljar/fault"
)

// archiveFolder is a folder that holds what a Debian archive holds, and one file of it.
func archiveFolder(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "debian")
	write(t, filepath.Join(dir, poolPath), payload)
	write(t, filepath.Join(dir, "dists/bookworm/InRelease"), []byte("signed"))
	return dir
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

const stamp = "20260101T000000Z"

// TestRoots: where an archive's files are looked for, and in which order.
func TestRoots(t *testing.T) {
	list := func(urls ...string) []Mirror {
		m, err := parseMirrors("test", urls)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	const snapshots = "http://snapshot.example/archive"
	for _, c := range []struct {
		name, archive string
		mirrors       []Mirror
		pinned        bool
		want          []string
	}{
		{"main", "debian", list("http://m.example/debian/", "/srv/mirror"), false,
			[]string{"http://m.example/debian", "file:///srv/mirror", snapshots + "/debian/" + stamp}},
		{"security beside main, else in the same folder", "debian-security", list("http://m.example/pub/debian", "/srv/mirror"), false,
			[]string{"http://m.example/pub/debian-security", "http://m.example/pub/debian", "file:///srv/mirror",
				snapshots + "/debian-security/" + stamp}},
		{"security named by hand", "debian-security", list("http://m.example/debian", "http://s.example/debian-security"), false,
			[]string{"http://s.example/debian-security", snapshots + "/debian-security/" + stamp}},
		{"main beside security named by hand", "debian", list("http://m.example/debian", "http://s.example/debian-security"), false,
			[]string{"http://m.example/debian", snapshots + "/debian/" + stamp}},
		{"a moment: mirrors have the present", "debian", list("http://m.example/debian"), true, []string{snapshots + "/debian/" + stamp}},
		{"a moment that a mirror is of", "debian-security", list("http://m.example/a/debian/"+stamp, "http://m.example/a/debian/20250101T000000Z"), true,
			[]string{"http://m.example/a/debian-security/" + stamp, "http://m.example/a/debian/" + stamp, snapshots + "/debian-security/" + stamp}},
	} {
		t.Run(c.name, func(t *testing.T) {
			roots, err := Mirrors{List: c.mirrors, SnapshotURL: snapshots}.roots(c.archive, stamp, c.pinned)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, m := range roots {
				got = append(got, m.URL)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestFolderAsMirror: a plain path is a mirror, relative ones from the current folder.
func TestFolderAsMirror(t *testing.T) {
	dir := archiveFolder(t)
	t.Chdir(filepath.Dir(dir))
	for _, name := range []string{dir, "./debian", "file:" + dir, "file://" + dir + "/"} {
		m, err := discover(Config{}, []string{name}, func(string) string { return "" }, fstest.MapFS{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if m.List[0].URL != "file://"+dir {
			t.Errorf("%s is %s, want file://%s", name, m.List[0].URL, dir)
		}
		f := newFetcher(t)
		f.Mirrors.List = m.List
		if err := f.Fetch(t.Context(), []Item{item(payload)}, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		got, _, err := f.GetChecked(t.Context(), State{}, "dists/bookworm/InRelease", 100, nil)
		if err != nil || string(got) != "signed" {
			t.Errorf("%s: index %q, %v", name, got, err)
		}
	}
	for name, says := range map[string]string{
		".":         "has no dists/ and no pool/",
		"./absent":  "absent is not a folder that can be read",
		"./debian/": "",
	} {
		_, err := discover(Config{}, []string{name}, func(string) string { return "" }, fstest.MapFS{})
		if says == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		wantFault(t, err, fault.Input, says)
		if name == "." && !strings.Contains(fault.Chain(err)[0].Remedy, "Name the folder below: "+dir) {
			t.Errorf("remedy is %q, want it to name %s", fault.Chain(err)[0].Remedy, dir)
		}
	}
	os.RemoveAll(filepath.Join(dir, "pool"))
	_, err := discover(Config{}, []string{dir}, func(string) string { return "" }, fstest.MapFS{})
	wantFault(t, err, fault.Input, dir+" has no pool/")
}

// TestSnapshotLayout: an index of a moment comes from the snapshot archive, whatever the mirrors have; a pinned file
// comes from any mirror.
func TestSnapshotLayout(t *testing.T) {
	const release = "dists/bookworm-security/InRelease"
	archive := http.NewServeMux()
	for path, data := range map[string]string{
		"/archive/debian-security/" + stamp + "/" + release:                                            "then",
		"/archive/debian-security/" + stamp + "/pool/updates/main/o/openssl/x.deb":                     string(payload),
		"/archive/debian-security/" + stamp + "/dists/bookworm-security/main/binary-amd64/Packages.xz": string(payload),
	} {
		archive.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) { content([]byte(data))(nil, w, r) })
	}
	snapshots := serve(t, func(_ *server, w http.ResponseWriter, r *http.Request) { archive.ServeHTTP(w, r) })
	mirror := serve(t, content([]byte("now")))
	f := newFetcher(t, mirror.URL+"/debian")
	f.Mirrors.SnapshotURL = snapshots.URL + "/archive"
	var frozen bool
	get := func(of State) (string, string) {
		got, from, err := f.GetChecked(t.Context(), of, release, 100, func(_ []byte, isFrozen bool) error { frozen = isFrozen; return nil })
		if err != nil {
			t.Fatal(err)
		}
		return string(got), from
	}
	got, from := get(State{Archive: ArchiveSecurity, Snapshot: stamp})
	if got != "then" || !frozen || from != snapshots.URL+"/archive/debian-security/"+stamp+"/"+release {
		t.Errorf("%q from %s, frozen %v", got, from, frozen)
	}
	if n := mirror.requests.Load(); n != 0 {
		t.Errorf("the mirror was asked %d times for another moment's index", n)
	}
	if got, from = get(State{Archive: ArchiveSecurity}); got != "now" || frozen || from != mirror.URL+"/debian-security/"+release {
		t.Errorf("%q from %s, frozen %v", got, from, frozen)
	}
	before := mirror.requests.Load()
	err := f.GetVerified(t.Context(), State{Archive: ArchiveSecurity, Snapshot: stamp},
		"dists/bookworm-security/main/binary-amd64/Packages.xz", digestOf(payload), int64(len(payload)))
	if err != nil || mirror.requests.Load() != before {
		t.Errorf("index by its digest: %v, the mirror was asked %d times", err, mirror.requests.Load()-before)
	}
	it := Item{Name: "x", Digest: digestOf([]byte("now")), Size: 3, Pool: "pool/updates/main/o/openssl/x.deb", Archive: ArchiveSecurity, Snapshot: stamp}
	if err := f.Fetch(t.Context(), []Item{it}, nil); err != nil {
		t.Errorf("a pinned file that a mirror has: %v", err)
	}
	err = f.GetVerified(t.Context(), State{Archive: ArchiveSecurity}, "dists/bookworm-security/main/binary-i386/Packages.xz", digestOf([]byte("other")), 5)
	wantFault(t, err, fault.Input, "wrong content")
	if remedy := fault.Chain(err)[0].Remedy; !strings.Contains(remedy, "in the midst of an update") {
		t.Errorf("remedy is %q", remedy)
	}
	f.Mirrors.SnapshotURL = ""
	_, _, err = f.GetChecked(t.Context(), State{Snapshot: stamp}, release, 100, nil)
	wantFault(t, err, fault.Input, "no mirror is known")
}

// TestProxies: who decides which proxy is used, and that it is used.
func TestProxies(t *testing.T) {
	var asked string
	proxy := serve(t, func(s *server, w http.ResponseWriter, r *http.Request) {
		asked = r.URL.String() // a proxy is asked for the whole URL (RFC 9112, 3.2.2)
		content(payload)(s, w, r)
	})
	f := newFetcher(t, "http://mirror.invalid/debian")
	f.client = newClient(proxy.URL)
	if err := f.Fetch(t.Context(), []Item{item(payload)}, nil); err != nil || asked != "http://mirror.invalid/debian/"+poolPath {
		t.Errorf("the configuration's proxy: %v, asked for %q", err, asked)
	}
	f = newFetcher(t)
	f.Mirrors.List = []Mirror{{URL: "http://apt.invalid/debian", Proxy: proxy.URL}}
	if err := f.Fetch(t.Context(), []Item{item(payload)}, nil); err != nil || asked != "http://apt.invalid/debian/"+poolPath {
		t.Errorf("apt's proxy: %v, asked for %q", err, asked)
	}
	for _, c := range []struct{ name, configured, mirrors, noProxy, url, want string }{
		{"configuration before apt", "http://c.example", "http://a.example", "", "http://m.example/", "http://c.example"},
		{"none by configuration", "DIRECT", "http://a.example", "", "http://m.example/", ""},
		{"apt", "", "http://a.example", "m.example", "http://m.example/", "http://a.example"},
		{"none by apt", "", "DIRECT", "", "http://m.example/", ""},
		{"this machine", "http://c.example", "", "", "http://127.0.0.1:80/", ""},
		{"no_proxy: host", "http://c.example", "", "other.example, m.example", "http://m.example/", ""},
		{"no_proxy: domain", "http://c.example", "", ".example", "https://m.example/", ""},
		{"no_proxy: domain with a star", "http://c.example", "", "*.example", "https://m.example/", ""},
		{"no_proxy: end of a word", "http://c.example", "", "ample", "https://m.example/", "http://c.example"},
		{"no_proxy: all", "http://c.example", "", "*", "https://m.example/", ""},
		{"no_proxy: network", "http://c.example", "", "10.0.0.0/8", "http://10.2.3.4/", ""},
		{"no_proxy: another network", "http://c.example", "", "10.0.0.0/8", "http://11.2.3.4/", "http://c.example"},
		{"no_proxy: port", "http://c.example", "", "m.example:80", "http://m.example/", ""},
		{"no_proxy: another port", "http://c.example", "", "m.example:81", "http://m.example/", "http://c.example"},
	} {
		t.Run(c.name, func(t *testing.T) {
			u, err := url.Parse(c.url)
			if err != nil {
				t.Fatal(err)
			}
			req := (&http.Request{URL: u}).WithContext(withProxy(t.Context(), c.mirrors))
			p, err := chooseProxy(c.configured, func() string { return c.noProxy })(req)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if p != nil {
				got = p.String()
			}
			if got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// TestProxyOfConfiguration: 'proxy:' and 'snapshot:' reach the fetcher, and git.
func TestProxyOfConfiguration(t *testing.T) {
	for proxy, want := range map[string]string{
		"http://user:secret@proxy.example:3128": "http://user:secret@proxy.example:3128",
		"direct":                                "DIRECT",
	} {
		config := Config{Path: "config.yaml", Proxy: proxy, Snapshot: "http://snapshots.example/archive/"}
		m, err := discover(config, nil, func(string) string { return "" }, fstest.MapFS{})
		if err != nil || m.Proxy != want || m.SnapshotURL != "http://snapshots.example/archive" {
			t.Errorf("%q: %+v, %v", proxy, m, err)
		}
	}
	if env := gitProxy("http://proxy.example"); env[1] != "https_proxy=http://proxy.example" {
		t.Errorf("git's environment is %q", env)
	}
	if env := gitProxy("DIRECT"); env[1] != "https_proxy=" {
		t.Errorf("git's environment without a proxy is %q", env)
	}
	if env := gitProxy(""); env != nil {
		t.Errorf("git's environment as it was is %q", env)
	}
}

// TestProxyOfEnvironment: http_proxy and no_proxy, in a process of its own, for net/http reads them once.
func TestProxyOfEnvironment(t *testing.T) {
	if proxied := os.Getenv("BELLJAR_TEST_FETCH"); proxied != "" {
		f := newFetcher(t, proxied)
		f.Mirrors.SnapshotURL = ""
		f.Attempts = 1
		if err := f.Fetch(t.Context(), []Item{item(payload)}, nil); err != nil {
			t.Fatal(err)
		}
		return
	}
	proxy := serve(t, content(payload))
	for mirror, want := range map[string]string{
		"http://mirror.invalid/debian":    "PASS",
		"http://apart.mirror.test/debian": "FAIL", // nobody answers, and the proxy may not be asked
		"http://127.0.0.1:9/debian":       "FAIL",
	} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestProxyOfEnvironment$")
		cmd.Env = append(os.Environ(), "BELLJAR_TEST_FETCH="+mirror, "http_proxy="+proxy.URL, "no_proxy=mirror.test")
		out, err := cmd.CombinedOutput()
		if !strings.Contains(string(out), want) || (err == nil) != (want == "PASS") {
			t.Errorf("%s: %v, want %s\n%s", mirror, err, want, out)
		}
	}
	for _, path := range proxy.paths {
		if path != "/debian/"+poolPath {
			t.Errorf("the proxy was asked for %s", path)
		}
	}
	if n := proxy.requests.Load(); n != 1 {
		t.Errorf("the proxy was asked %d times, want once", n)
	}
}
