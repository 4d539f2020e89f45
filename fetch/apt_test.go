package fetch

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/belljar/belljar/fault"
	"github.com/google/go-cmp/cmp"
)

const (
	debianList = `# deb cdrom:[Debian GNU/Linux 12.5.0 _Bookworm_ - Official amd64 NETINST with firmware]/ bookworm main

deb http://mirror.example/debian/ bookworm main non-free-firmware # the main archive
deb-src http://mirror.example/debian/ bookworm main non-free-firmware

deb http://security.mirror.example/debian-security bookworm-security main non-free-firmware
deb http://mirror.example/debian/ bookworm-updates main non-free-firmware
deb [arch=amd64 signed-by=/etc/apt/keyrings/vendor.gpg] https://vendor.example/linux/debian bookworm stable
deb [ signed-by=/etc/apt/keyrings/other.asc ] https://other.example/debian bookworm main
`
	dockerSources = `Types: deb
# http://snapshot.mirror.example/archive/debian/20250520T000000Z
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
# http://snapshot.mirror.example/archive/debian-security/20250520T000000Z
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
`
	trixieSources = `Types: deb deb-src
URIs: https://first.example/pub/debian/
 file:///srv/debian
Suites: trixie
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEY865UxYJKwYBBAHaRw8BAQdAd7Z0srwuhlB6JKFkcf4HU4SSS
 -----END PGP PUBLIC KEY BLOCK-----

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: trixie
Components: main

types: deb
uris: http://lower.example/debian
suites: stable
components: main
`
	ubuntuSources = `Types: deb
URIs: http://mirror.example/ubuntu/
Suites: noble noble-updates noble-backports
Components: main restricted universe multiverse
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg
`
	ubuntuList = `deb http://mirror.example/ubuntu/ jammy main restricted
deb http://mirror.example/ubuntu/ jammy-security main restricted
deb https://vendor.example/chrome/deb/ stable main
deb http://ppa.example/team/app/debian jammy main
`
)

// mainList is apt's configuration in its shortest form.
const mainList = "deb http://mirror.example/debian/ bookworm main\n"

func file(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }

func TestAptMirrors(t *testing.T) {
	const sourcesList = "/etc/apt/sources.list"
	for _, c := range []struct {
		name string
		root fstest.MapFS
		want []Mirror
	}{
		{"nothing", fstest.MapFS{}, nil},
		{"Debian, one-line form", fstest.MapFS{"etc/apt/sources.list": file(debianList)},
			[]Mirror{
				{URL: "http://mirror.example/debian", Archive: "debian", From: sourcesList + ":3"},
				{URL: "http://security.mirror.example/debian-security", Archive: "debian-security", From: sourcesList + ":6"},
			}},
		{"Debian in a container", fstest.MapFS{"etc/apt/sources.list.d/debian.sources": file(dockerSources)},
			[]Mirror{
				{URL: "http://mirror.example/debian", Archive: "debian", From: "/etc/apt/sources.list.d/debian.sources:1"},
				{URL: "http://mirror.example/debian-security", Archive: "debian-security", From: "/etc/apt/sources.list.d/debian.sources:8"},
			}},
		{"deb822: folded fields, an embedded key, disabled, lower case",
			fstest.MapFS{"etc/apt/sources.list.d/debian.sources": file(trixieSources)},
			[]Mirror{{URL: "http://lower.example/debian", Archive: "debian", From: "/etc/apt/sources.list.d/debian.sources:18"}}},
		{"deb822: several URIs", fstest.MapFS{"etc/apt/sources.list.d/debian.sources": file(
			strings.Split(trixieSources, "Signed-By")[0])},
			[]Mirror{
				{URL: "https://first.example/pub/debian", Archive: "debian", From: "/etc/apt/sources.list.d/debian.sources:1"},
				{URL: "file:///srv/debian", Archive: "debian", From: "/etc/apt/sources.list.d/debian.sources:1"},
			}},
		{"Ubuntu 24.04", fstest.MapFS{"etc/apt/sources.list.d/ubuntu.sources": file(ubuntuSources)}, nil},
		{"Ubuntu 22.04 with vendors", fstest.MapFS{"etc/apt/sources.list": file(ubuntuList)}, nil},
		{"a snapshot", fstest.MapFS{"etc/apt/sources.list": file(
			"deb [check-valid-until=no] http://snapshot.mirror.example/archive/debian/20250520T000000Z bookworm main\n")},
			[]Mirror{{URL: "http://snapshot.mirror.example/archive/debian/20250520T000000Z", Archive: "debian", From: sourcesList + ":1"}}},
		{"Debian's keyring, another path", fstest.MapFS{"etc/apt/sources.list": file(
			"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] https://cache.example/debian-remote sid main\n")},
			[]Mirror{{URL: "https://cache.example/debian-remote", Archive: "debian", From: sourcesList + ":1"}}},
		{"files that apt ignores", fstest.MapFS{
			"etc/apt/sources.list.d/a.list.save":          file(debianList),
			"etc/apt/sources.list.d/a.sources.disabled":   file(dockerSources),
			"etc/apt/sources.list.d/unknown-scheme.list":  file("deb tor+http://mirror.example/debian bookworm main\n"),
			"etc/apt/sources.list.d/unclosed-option.list": file("deb [arch=amd64 http://mirror.example/debian bookworm main\n"),
		}, nil},
		{"sources without binaries", fstest.MapFS{"etc/apt/sources.list.d/s.sources": file(
			"Types: deb-src\nURIs: http://mirror.example/debian\nSuites: sid\nComponents: main\n")}, nil},
		{"a proxy", fstest.MapFS{
			"etc/apt/sources.list":            file(mainList),
			"etc/apt/apt.conf.d/01proxy":      file("// cache\nAcquire::http::Proxy \"http://cache.example:3142\";\n"),
			"etc/apt/apt.conf.d/01proxy.save": file(`Acquire::http::Proxy "http://wrong.example";`),
		}, []Mirror{{URL: "http://mirror.example/debian", Archive: "debian", From: sourcesList + ":1", Proxy: "http://cache.example:3142"}}},
		{"a proxy, nested, but not for this host", fstest.MapFS{
			"etc/apt/sources.list": file(mainList),
			"etc/apt/apt.conf": file("/* site */\nAcquire { Languages { \"none\"; };\n http {\n  Proxy \"http://cache.example:3142\";\n" +
				"  Proxy::mirror.example \"DIRECT\"; # local\n }; };\n"),
		}, []Mirror{{URL: "http://mirror.example/debian", Archive: "debian", From: sourcesList + ":1", Proxy: "DIRECT"}}},
		{"https takes http's proxy, and its own before", fstest.MapFS{
			"etc/apt/sources.list": file("deb https://one.example/debian sid main\ndeb https://two.example/debian sid main\n"),
			"etc/apt/apt.conf":     file("Acquire::http::Proxy \"http://cache.example:3142\";\nAcquire::https::Proxy::two.example \"DIRECT\";\n"),
		}, []Mirror{
			{URL: "https://one.example/debian", Archive: "debian", From: sourcesList + ":1", Proxy: "http://cache.example:3142"},
			{URL: "https://two.example/debian", Archive: "debian", From: sourcesList + ":2", Proxy: "DIRECT"},
		}},
		{"the security archive elsewhere", fstest.MapFS{"etc/apt/sources.list": file(
			"deb http://one.example/debian-security bookworm-security main\n" +
				"deb http://two.example/debian-security bookworm main\n" + // no such thing
				"deb http://three.example/debian bookworm-security main\n" + // nor this
				"deb http://four.example/archive/debian-security/20250520T000000Z trixie-security main\n" +
				"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://five.example/sec bookworm-security main\n")},
			[]Mirror{
				{URL: "http://one.example/debian-security", Archive: "debian-security", From: sourcesList + ":1"},
				{URL: "http://four.example/archive/debian-security/20250520T000000Z", Archive: "debian-security", From: sourcesList + ":4"},
				{URL: "http://five.example/sec", Archive: "debian-security", From: sourcesList + ":5"},
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, aptMirrors(c.root)); diff != "" {
				t.Errorf("mirrors (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDiscoverOrder(t *testing.T) {
	apt := fstest.MapFS{"etc/apt/sources.list": file(mainList)}
	folder := archiveFolder(t)
	config := Config{Path: "config.yaml", Mirror: []string{"http://config.example/debian/", folder}}
	for _, c := range []struct {
		name     string
		config   Config
		env      string
		explicit []string
		root     fs.FS
		want     []string
	}{
		{"command line", config, "http://env.example/debian", []string{"http://flag.example/debian"}, apt, []string{"http://flag.example/debian"}},
		{"environment", config, "http://env.example/debian, http://env2.example/d", nil, apt,
			[]string{"http://env.example/debian", "http://env2.example/d"}},
		{"configuration", config, "", nil, apt, []string{"http://config.example/debian", "file://" + folder}},
		{"apt", Config{}, "", nil, apt, []string{"http://mirror.example/debian"}},
		{"the snapshot archive alone", Config{}, "", nil, fstest.MapFS{}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := discover(c.config, c.explicit, func(string) string { return c.env }, c.root)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, x := range m.List {
				got = append(got, x.URL)
			}
			if diff := cmp.Diff(c.want, got); diff != "" || m.SnapshotURL != defaultSnapshotURL {
				t.Errorf("(-want +got):\n%s; snapshot %q", diff, m.SnapshotURL)
			}
		})
	}
}

func TestDiscoverRefuses(t *testing.T) {
	for _, c := range []struct {
		name      string
		config    Config
		env, says string
	}{
		{"not a URL", Config{Mirror: []string{"mirror.example"}}, "", "expected http://"},
		{"environment", Config{}, "ftp://mirror.example/debian", MirrorVariable},
		{"snapshot archive without a scheme", Config{Snapshot: "mirror.example"}, "", "config.yaml, snapshot: URL"},
		{"proxy without a scheme", Config{Proxy: "proxy.example:3128"}, "", "config.yaml: proxy: "},
		{"proxy of another kind", Config{Proxy: "ftp://proxy.example"}, "", "config.yaml: proxy: it is \"ftp://proxy.example\""},
		{"folder that is not there", Config{Mirror: []string{"/nowhere/debian"}}, "", "config.yaml: /nowhere/debian is not a folder"},
		{"folder without an archive", Config{Mirror: []string{"/usr"}}, "", "/usr has no dists/ and no pool/"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.config.Path = "/home/user/config.yaml"
			_, err := discover(c.config, nil, func(string) string { return c.env }, fstest.MapFS{})
			wantFault(t, err, fault.Input, c.says)
			if c.env == "" && !strings.Contains(err.Error(), c.config.Path) {
				t.Errorf("error does not name the file: %v", err)
			}
		})
	}
}

// FuzzAptSources feeds foreign text to the three parsers: none may panic, and what is taken for a mirror is one.
func FuzzAptSources(f *testing.F) {
	for _, s := range []string{debianList, dockerSources, trixieSources, ubuntuSources, ubuntuList,
		"Acquire { http { Proxy \"http://cache.example:3142\"; }; };", "deb [", "deb [a] x", " folded\nURIs", "}}};;\"", "/*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		root := fstest.MapFS{"etc/apt/sources.list": file(s), "etc/apt/sources.list.d/x.sources": file(s), "etc/apt/apt.conf": file(s)}
		for _, m := range aptMirrors(root) {
			if _, err := parseMirrors("fuzz", []string{m.URL}); err != nil || m.From == "" {
				t.Errorf("%+v: %v", m, err)
			}
		}
	})
}
