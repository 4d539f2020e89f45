package image

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belljar/belljar/fault"
)

func TestWriteBase(t *testing.T) {
	tool := deb(t, "tool", "", map[string]string{"conffiles": "/etc/tool.conf\n", "postinst": "#!/bin/sh\n"},
		e("./"), e("./bin/"), entry{line: "./bin/tool=run", mode: 0o4755, uid: 7},
		e("./bin/same=>./bin/tool"), e("./etc/"), e("./etc/tool.conf=x=1\n"), e("./lib64/"), e("./lib64/ld->/lib/x"),
		entry{line: "./usr/share/new=n", when: testClock.Add(time.Hour)})
	same := deb(t, "libx", "Multi-Arch: same\n", nil, e("./usr/lib/x=lib"), entry{line: "./var/spool/", mode: 0o2775})
	out, err := base(t, tool, passwd(t), same)
	if err != nil {
		t.Fatal(err)
	}
	tr := mustTree(t, root(out))
	for name, want := range map[string]string{
		"bin":                    "Lrwxrwxrwx 0:0 -> usr/bin",
		"lib64":                  "Lrwxrwxrwx 0:0 -> usr/lib64",
		"libx32":                 "absent",
		"usr/bin/tool":           `urwxr-xr-x 7:0 "run"`,
		"usr/bin/same":           `urwxr-xr-x 7:0 "run"`, // one inode: what its first header said
		"usr/lib64/ld":           "Lrwxrwxrwx 0:0 -> /lib/x",
		"etc/tool.conf":          "absent",
		"etc/tool.conf.dpkg-new": `-rw-r--r-- 0:0 "x=1\n"`,
		"etc/passwd":             `-rw-r--r-- 0:0 "root:*:0:0::/root:/bin/sh\n"`,
		"usr/sbin/policy-rc.d":   `-rwxr-xr-x 0:0 "#!/bin/sh\nexit 101\n"`,
		"var/spool":              "dgrwxrwxr-x 0:0",
		"tmp":                    "dtrwxrwxrwx 0:0",
		"belljar":                "drwxr-xr-x 0:0",
		"var/lib/dpkg/info/tool.list": `-rw-r--r-- 0:0 "/.\n/bin\n/bin/tool\n/bin/same\n/etc\n/etc/tool.conf\n` +
			`/lib64\n/lib64/ld\n/usr/share/new\n"`,
		"var/lib/dpkg/info/tool.postinst":   `-rwxr-xr-x 0:0 "#!/bin/sh\n"`,
		"var/lib/dpkg/info/libx:amd64.list": `-rw-r--r-- 0:0 "/usr/lib/x\n/var/spool\n"`,
		"var/lib/dpkg/info/format":          `-rw-r--r-- 0:0 "1\n"`,
		"var/lib/dpkg/diversions":           `-rw-r--r-- 0:0 ""`,
	} {
		if got := show(t, tr, name); got != want {
			t.Errorf("%s\n got %s\nwant %s", name, got, want)
		}
	}
	if tr.get("usr/bin/same") != tr.get("usr/bin/tool") {
		t.Error("a hard link became a file of its own")
	}
	if got := tr.get("usr/share/new").mtime; got != testClock.Unix() {
		t.Errorf("a file from the future has mtime %d", got)
	}
	if got := tr.get("usr/bin/tool").mtime; got != testClock.Add(-time.Hour).Unix() {
		t.Errorf("an old file has mtime %d", got)
	}
	status := show(t, tr, "var/lib/dpkg/status")
	if !strings.Contains(status, `Package: tool\nStatus: install ok unpacked\n`) ||
		!strings.Contains(status, `Conffiles:\n /etc/tool.conf newconffile\n`) {
		t.Errorf("status is %s", status)
	}
}

func TestBaseIsTheSameInAnyOrder(t *testing.T) {
	pkgs := []Package{passwd(t)}
	for _, name := range []string{"a", "b", "c", "base-files", "d"} {
		lib := entry{line: "./usr/lib/", mode: 0o755}
		pkgs = append(pkgs, deb(t, name, "", nil, lib, e("./usr/lib/"+name+"="+name)))
	}
	one, err := base(t, pkgs...)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(pkgs)
	two, err := base(t, pkgs...)
	if err != nil {
		t.Fatal(err)
	}
	if content256(t, one) != content256(t, two) {
		t.Error("the order of the packages changed the image")
	}
}

func TestReplaces(t *testing.T) {
	old := deb(t, "old", "", nil, e("./usr/bin/x=old"))
	for _, name := range []string{"newer", "a-newer"} { // laid after and before the other
		newer := deb(t, name, "Replaces: old (<< 2.0)\n", nil, e("./usr/bin/x=new"))
		out, err := base(t, passwd(t), old, newer)
		if err != nil {
			t.Fatal(err)
		}
		tr := mustTree(t, root(out))
		if got := show(t, tr, "usr/bin/x"); got != `-rw-r--r-- 0:0 "new"` {
			t.Errorf("%s: /usr/bin/x is %s", name, got)
		}
		if got := show(t, tr, "var/lib/dpkg/info/old.list"); got != `-rw-r--r-- 0:0 ""` {
			t.Errorf("%s: old still lists %s", name, got)
		}
	}
}

func TestBaseRefuses(t *testing.T) {
	cases := []struct {
		name string
		pkgs []Package
		want []string
	}{
		{"two packages, one path", []Package{
			passwd(t), deb(t, "one", "", nil, e("./bin/x=1")), deb(t, "two", "", nil, e("./usr/bin/x=2")),
		}, []string{"unpack two", "/usr/bin/x", "one"}},
		{"replaces another version", []Package{
			passwd(t), deb(t, "one", "", nil, e("./x=1")), deb(t, "two", "Replaces: one (<< 1.0)\n", nil, e("./x=2")),
		}, []string{"/x", "one", "neither"}},
		{"a file where a folder is", []Package{
			passwd(t), deb(t, "one", "", nil, e("./x/y=1")), deb(t, "two", "", nil, e("./x=2")),
		}, []string{"two", "/x"}},
		{"a file on the way", []Package{
			passwd(t), deb(t, "one", "", nil, e("./x=1")), deb(t, "two", "", nil, e("./x/y=2")),
		}, []string{"two", "x/y"}},
		{"no users", []Package{deb(t, "one", "", nil, e("./x=1"))}, []string{"passwd.master"}},
		{"damaged package", []Package{passwd(t), {Name: "bad", Version: "3", Open: opener([]byte("!<arch>\nrubbish"))}},
			[]string{"bad 3"}},
		{"package that is gone", []Package{passwd(t), {Name: "gone", Version: "3",
			Open: func() (io.ReadCloser, error) { return nil, errors.New("no such object") }}},
			[]string{"gone 3", "no such object"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := base(t, c.pkgs...)
			if err == nil {
				t.Fatal("it was taken")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not name %s", err, want)
				}
			}
		})
	}
}

func TestBaseStops(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := WriteBase(ctx, tempFile(t), []Package{passwd(t)}, BaseOptions{Clock: testClock, TempDir: t.TempDir()})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestConflictIsAnInputFault(t *testing.T) {
	_, err := base(t, passwd(t), deb(t, "one", "", nil, e("./x=1")), deb(t, "two", "", nil, e("./x=2")))
	if fault.KindOf(err) != fault.Input {
		t.Errorf("%v is a fault of kind %v", err, fault.KindOf(err))
	}
}
