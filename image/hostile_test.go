package image

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belljar/belljar/fault"
)

// wantFault checks an error as its user meets it: whose fault, what, and how to mend it.
func wantFault(t *testing.T, err error, kind fault.Kind, says ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if k := fault.KindOf(err); k != kind {
		t.Errorf("%v, want %v: %v", k, kind, err)
	}
	text, remedy := err.Error(), ""
	for _, f := range fault.Chain(err) {
		remedy += f.Remedy
	}
	if remedy == "" {
		t.Errorf("no remedy: %v", err)
	}
	for _, s := range says {
		if !strings.Contains(text+"\n"+remedy, s) {
			t.Errorf("%q is not in: %s\nremedy: %s", s, text, remedy)
		}
	}
}

// Links that lead out of the root, and files below them: all land within the root, and the host's files stay as they
// are. dpkg --root would have followed the absolute ones to the host.
func TestLinksAsFoldersStayInTheRoot(t *testing.T) {
	outside := t.TempDir()
	for _, c := range []struct {
		name string
		pkgs []Package
		want map[string]string
	}{
		{"absolute, in one package", []Package{
			deb(t, "p", "", nil, e("./etc/"), e("./a->/etc"), e("./a/x=in")),
		}, map[string]string{"a": "Lrwxrwxrwx 0:0 -> /etc", "etc/x": `-rw-r--r-- 0:0 "in"`}},
		{"absolute, across packages", []Package{
			deb(t, "p", "", nil, e("./etc/"), e("./a->/etc")), deb(t, "q", "", nil, e("./a/x=in"), e("./a/d/"), e("./a/d/y=in")),
		}, map[string]string{"etc/x": `-rw-r--r-- 0:0 "in"`, "etc/d/y": `-rw-r--r-- 0:0 "in"`}},
		{"absolute, deep in the root", []Package{
			deb(t, "p", "", nil, e("./etc/"), e("./usr/share/p/a->/etc"), e("./usr/share/p/b->a/../opt")),
			deb(t, "q", "", nil, e("./usr/share/p/a/x=in"), e("./usr/share/p/b/y=in")),
		}, map[string]string{"etc/x": `-rw-r--r-- 0:0 "in"`, "opt/y": `-rw-r--r-- 0:0 "in"`, "usr/share/p/etc": "absent"}},
		{"to a folder of the host", []Package{
			deb(t, "p", "", nil, e("./a->"+outside)), deb(t, "q", "", nil, e("./a/x=in")),
		}, map[string]string{strings.TrimPrefix(outside, "/") + "/x": `-rw-r--r-- 0:0 "in"`}},
		{"to the root", []Package{
			deb(t, "p", "", nil, e("./a->/")), deb(t, "q", "", nil, e("./a/x=in"), e("./a/a/a/y=in")),
		}, map[string]string{"a": "Lrwxrwxrwx 0:0 -> /", "x": `-rw-r--r-- 0:0 "in"`, "y": `-rw-r--r-- 0:0 "in"`}},
		{"climbing above the root", []Package{
			deb(t, "p", "", nil, e("./d/a->../../../../../..")), deb(t, "q", "", nil, e("./d/a/etc/x=in")),
		}, map[string]string{"etc/x": `-rw-r--r-- 0:0 "in"`}},
		{"climbing by a chain", []Package{
			deb(t, "p", "", nil, e("./a->b/.."), e("./b->c/../.."), e("./c->..")), deb(t, "q", "", nil, e("./a/x=in")),
		}, map[string]string{"x": `-rw-r--r-- 0:0 "in"`}},
		{"a package that is laid later ships the link", []Package{
			deb(t, "a", "", nil, e("./l/x=in")), deb(t, "z", "", nil, e("./l->/etc")),
		}, map[string]string{"l": "drwxr-xr-x 0:0", "l/x": `-rw-r--r-- 0:0 "in"`, "etc/x": "absent"}},
		{"a folder where a link is", []Package{
			deb(t, "a", "", nil, e("./etc/"), e("./l->etc")), deb(t, "z", "", nil, e("./l/"), e("./l/x=in")),
		}, map[string]string{"l": "Lrwxrwxrwx 0:0 -> etc", "etc/x": `-rw-r--r-- 0:0 "in"`}},
		{"the same link to a folder twice", []Package{
			deb(t, "a", "", nil, e("./etc/"), e("./l->etc")), deb(t, "z", "", nil, e("./l->etc"), e("./l/x=in")),
		}, map[string]string{"l": "Lrwxrwxrwx 0:0 -> etc", "etc/x": `-rw-r--r-- 0:0 "in"`}},
		{"a merged /usr that is shipped", []Package{
			deb(t, "base-files", "", nil, e("./usr/bin/"), e("./bin->usr/bin")), deb(t, "z", "", nil, e("./bin/x=in")),
		}, map[string]string{"bin": "Lrwxrwxrwx 0:0 -> usr/bin", "usr/bin/x": `-rw-r--r-- 0:0 "in"`}},
		{"names that are no UTF-8", []Package{
			deb(t, "p", "", nil, e("./caf\xe9/\xff\xfe=in"), e("./l\x80->caf\xe9"), e("./l\x80/y=in")),
		}, map[string]string{"caf\xe9/\xff\xfe": `-rw-r--r-- 0:0 "in"`, "caf\xe9/y": `-rw-r--r-- 0:0 "in"`}},
		{"names of 255 bytes", []Package{
			deb(t, "p", "", nil, e("./"+strings.Repeat("n", 255)+"=in"), e("./"+strings.Repeat("é", 127)+"=in")),
		}, map[string]string{strings.Repeat("n", 255): `-rw-r--r-- 0:0 "in"`, strings.Repeat("é", 127): `-rw-r--r-- 0:0 "in"`}},
		{"before 1970", []Package{
			deb(t, "p", "", nil, entry{line: "./old=in", when: time.Unix(0, 0).Add(-time.Hour)}),
		}, map[string]string{"old": `-rw-r--r-- 0:0 "in"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := base(t, append(c.pkgs, passwd(t))...)
			if err != nil {
				t.Fatal(err)
			}
			tr := mustTree(t, root(out))
			for name, want := range c.want {
				if got := show(t, tr, name); got != want {
					t.Errorf("%q\n got %s\nwant %s", name, got, want)
				}
			}
		})
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("on the host: %v, %v", left, err)
	}
}

func TestBaseRefusesHostilePackages(t *testing.T) {
	named := func(p Package, name, version, arch string) Package {
		p.Name, p.Version, p.Arch = name, version, arch
		return p
	}
	links := []entry{}
	for i := range 50 {
		links = append(links, e(fmt.Sprintf("./l%d->l%d", i, i+1)))
	}
	for _, c := range []struct {
		name string
		pkgs []Package
		says []string
	}{
		{"a loop of links on the way", []Package{
			deb(t, "p", "", nil, e("./a->b"), e("./b->a")), deb(t, "q", "", nil, e("./a/x=1")),
		}, []string{"unpack q 1.0", "/a/x: too many symbolic links on the way", "Leave the package q out of the spec"}},
		{"a link to itself", []Package{deb(t, "p", "", nil, e("./a->a"), e("./a/x=1"))},
			[]string{"a/x: too many symbolic links on the way"}},
		{"a long chain of links", []Package{deb(t, "p", "", nil, links...), deb(t, "q", "", nil, e("./l0/x=1"))},
			[]string{"l0/x: too many symbolic links on the way"}},
		{"links that make paths long", []Package{
			deb(t, "p", "", nil, e("./a->"+strings.Repeat("d/", 1300)+"b"), e("./b->x")),
			deb(t, "q", "", nil, e("./a/"+strings.Repeat("d/", 800)+"x=1")),
		}, []string{"unpack q 1.0", "bytes, want at most 4095"}},
		{"one path by two ways", []Package{deb(t, "p", "", nil, e("./bin/x=1"), e("./usr/bin/x=2"))},
			[]string{"unpack p 1.0", "its /usr/bin/x is its /usr/bin/x too", "in a merged /usr it has one path twice"}},
		{"a file where its own folder is", []Package{deb(t, "p", "", nil, e("./usr/bin/x/"), e("./bin/x=2"))},
			[]string{"unpack p 1.0", "its /bin/x is its /usr/bin/x too"}},
		{"two packages, one path, by a link", []Package{
			deb(t, "p", "", nil, e("./etc/"), e("./a->/etc"), e("./etc/x=1")), deb(t, "q", "", nil, e("./a/x=2")),
		}, []string{"unpack q 1.0: /a/x is in p too, and neither package replaces the other", "they do not go together"}},
		{"a conffile whose interim name is too long", []Package{
			deb(t, "p", "", map[string]string{"conffiles": "/etc/" + strings.Repeat("n", 250) + "\n"}, e("./etc/"+strings.Repeat("n", 250)+"=1")),
		}, []string{"unpack p 1.0", "a name of 259 bytes in it, want at most 255"}},
		{"another package than the index names", []Package{named(deb(t, "evil", "", nil), "good", "1.0", "amd64")},
			[]string{`unpack good 1.0: read control of good: Package is "evil", want "good" as in the archive's index`, "Lock the spec again"}},
		{"another version", []Package{named(deb(t, "good", "", nil), "good", "2.0", "amd64")},
			[]string{`Version is "1.0", want "2.0"`}},
		{"another architecture", []Package{named(deb(t, "good", "", nil), "good", "1.0", "i386")},
			[]string{`Architecture is "amd64", want "i386"`}},
		{"bad Replaces", []Package{deb(t, "p", "Replaces: Bad Name\n", nil)},
			[]string{"unpack p 1.0: read control of p: line 4: Replaces: relation"}},
		{"bad conffiles", []Package{deb(t, "p", "", map[string]string{"conffiles": "/etc/../../x\n"})},
			[]string{"read conffiles of p: line 1: it reads", "want an absolute clean path"}},
		{"Status in control", []Package{deb(t, "p", "Status: install ok installed\n", nil)},
			[]string{"write status of p: line 4: its control has the field Status, which is dpkg's own"}},
		{"a link in the place of /etc", []Package{deb(t, "p", "", nil, e("./etc->/usr/share"))},
			[]string{"base image: no room for what a system needs to boot: etc on the way is a symbolic link of p", "Leave the package that ships it"}},
		{"a file in the place of dpkg's folder", []Package{deb(t, "p", "", nil, e("./var/lib/dpkg=x"))},
			[]string{"base image: no room for dpkg's database: dpkg on the way is a file of p"}},
		{"climbs", []Package{deb(t, "p", "", nil, e("../x=1"))},
			[]string{"unpack p 1.0: read package p: data.tar: the path \"../x\" climbs with '..'", "Get the package again"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			out := tempFile(t)
			pkgs := append(c.pkgs, passwd(t))
			err := WriteBase(context.Background(), out, pkgs, BaseOptions{Clock: testClock, TempDir: dir})
			wantFault(t, err, fault.Input, c.says...)
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("left in the folder for temporary files: %v, %v", left, err)
			}
			// The same file takes the good image, once the bad package is gone.
			if err := WriteBase(context.Background(), out, []Package{passwd(t)}, BaseOptions{Clock: testClock, TempDir: dir}); err != nil {
				t.Errorf("once more, without the package: %v", err)
			}
			if got := show(t, mustTree(t, root(out)), "etc/passwd"); !strings.Contains(got, "root:*:0:0") {
				t.Errorf("/etc/passwd is %s", got)
			}
		})
	}
}

// The guest's answer is not trusted either.
func TestMergeRefusesHostileDifferences(t *testing.T) {
	below, err := base(t, passwd(t), deb(t, "p", "", nil, e("./etc/"), e("./l->/etc"), e("./up->../../..")))
	if err != nil {
		t.Fatal(err)
	}
	huge := func(size int64) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := w.WriteHeader(&tar.Header{Name: "huge", Typeflag: tar.TypeReg, Size: size, Format: tar.FormatGNU}); err != nil {
			t.Fatal(err)
		}
		return append(b.Bytes(), make([]byte, 2048)...)
	}
	odd := func(flag byte) []byte { // archive/tar would not write it
		raw := upper(t, tar.Header{Name: "odd", Typeflag: tar.TypeFifo})
		at := bytes.Index(raw, []byte("odd"))
		h := raw[at : at+512]
		h[156] = flag
		copy(h[148:156], "        ")
		sum := 0
		for _, c := range h {
			sum += int(c)
		}
		copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
		return raw
	}
	for _, c := range []struct {
		name string
		diff []byte
		says string
	}{
		{"through a link to /etc", upper(t, tar.Header{Name: "l/passwd", Typeflag: tar.TypeReg}), "l on the way is a symbolic link"},
		{"through a link that climbs", upper(t, tar.Header{Name: "up/x", Typeflag: tar.TypeReg}), "up on the way is a symbolic link"},
		{"through its own link", upper(t, tar.Header{Name: "own", Typeflag: tar.TypeSymlink, Linkname: "/"},
			tar.Header{Name: "own/x", Typeflag: tar.TypeReg}), "own on the way is a symbolic link"},
		{"climbing", upper(t, tar.Header{Name: "a/../../b", Typeflag: tar.TypeReg}), "the path leaves the root"},
		{"hard link through a link", upper(t, tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "l/passwd"}), "which is no file before it"},
		{"hard link out", upper(t, tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "../../etc/passwd"}), "which is no file before it"},
		{"a file as the root", upper(t, tar.Header{Name: ".", Typeflag: tar.TypeReg}), "the root cannot be a file"},
		{"8 EiB", huge(1<<63 - 1), "it declares 9223372036854775807 bytes, the difference has at most 8589934592"},
		{"9 GiB", huge(9 << 30), "it declares 9663676416 bytes"},
		{"8 GiB that do not come", huge(8<<30 - 512), "unexpected EOF"},
		{"owner", upper(t, tar.Header{Name: "a", Typeflag: tar.TypeReg, Uid: 1 << 33}), "the owner is 8589934592:0, want numbers below 4294967295"},
		{"device", upper(t, tar.Header{Name: "a", Typeflag: tar.TypeChar, Devmajor: 1 << 12, Devminor: 1}), "the device is 4096:1"},
		{"long name", upper(t, tar.Header{Name: strings.Repeat("n", 256), Typeflag: tar.TypeReg}), "a name of 256 bytes in it"},
		{"long path", upper(t, tar.Header{Name: strings.Repeat("n/", 2049), Typeflag: tar.TypeDir}), "bytes, want at most 4095"},
		{"unknown type", odd('V'), `an entry of the type 'V', want a file`},
		{"contiguous", odd('7'), `an entry of the type '7', want a file`},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			out := tempFile(t)
			opts := MergeOptions{Clock: testClock, TempDir: dir}
			_, err := Merge(context.Background(), out, below, bytes.NewReader(c.diff), opts)
			wantFault(t, err, fault.Guest, "read configured image", c.says)
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
			if _, err := Merge(context.Background(), out, below, bytes.NewReader(upper(t)), opts); err != nil {
				t.Errorf("once more with a good difference: %v", err)
			}
		})
	}
}

// Each of these took hours, or the memory of the host, where work grew with the square of the input.
func TestTreeWorkGrowsWithTheInputOnly(t *testing.T) {
	const patient = 20 * time.Second
	for name, f := range map[string]func(t *testing.T, tr *tree){
		"paths through links that lead far": func(t *testing.T, tr *tree) {
			for i := range 39 { // each name on the way leads through two thousand folders to the next
				put(t, tr, fmt.Sprintf("l%d", i), &node{mode: typeLink, link: strings.Repeat("none/", 700) + strings.Repeat("../", 700) + fmt.Sprintf("l%d", i+1)})
			}
			for range 200 {
				if got, err := tr.resolve("l0/x"); err != nil || got != "l39/x" {
					t.Fatal(got, err)
				}
			}
		},
		"a hundred thousand links": func(t *testing.T, tr *tree) {
			for i := range 100000 {
				put(t, tr, fmt.Sprintf("l%d", i), &node{mode: typeLink, link: fmt.Sprintf("l%d", i+1)})
			}
			for range 10000 {
				if _, err := tr.resolve("l0/x"); err == nil {
					t.Fatal("it was followed to its end")
				}
			}
		},
		"deep folders": func(t *testing.T, tr *tree) {
			deep := strings.TrimSuffix(strings.Repeat("d/", 2047), "/")
			for i := range 2000 {
				put(t, tr, deep[:len(deep)-2]+fmt.Sprint(i%1000), &node{mode: typeFile})
			}
			n := 0
			for range tr.all() {
				n++
			}
			if n < 3000 {
				t.Error(n)
			}
		},
		"many files in a folder": func(t *testing.T, tr *tree) {
			for i := range 100000 {
				put(t, tr, fmt.Sprintf("d/%d", i), &node{mode: typeFile})
			}
			out := tempFile(t)
			if _, err := writeErofs(context.Background(), out, tr, testClock); err != nil {
				t.Fatal(err)
			}
			if got := mustTree(t, out); len(got.get("d").children) != 100000 {
				t.Error(len(got.get("d").children))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			f(t, newTree())
			if took := time.Since(start); took > patient {
				t.Errorf("it took %v, want less than %v", took, patient)
			} else {
				t.Logf("%v", took.Round(time.Millisecond))
			}
		})
	}
}

func put(t *testing.T, tr *tree, name string, n *node) {
	t.Helper()
	if err := tr.put(name, n); err != nil {
		t.Fatal(err)
	}
}

// A file that is taken out of a package that is cut off does not stay half.
func TestExtractFileLeavesNoHalf(t *testing.T) {
	whole := deb(t, "p", "", nil, e("./bin/tool="+strings.Repeat("x", 100000)))
	r, err := whole.Open()
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "tool")
	wantFault(t, ExtractFile(bytes.NewReader(data[:len(data)/2]), "bin/tool", to), fault.Input, "the file is cut off or damaged")
	if _, err := os.Lstat(to); err == nil {
		t.Error("half of it is there")
	}
	if err := ExtractFile(bytes.NewReader(data), "bin/tool", to); err != nil {
		t.Error(err)
	}
}
