package image

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/belljar/belljar/fault"
)

// FuzzBase lays two packages, whose data.tar anybody may have written, into one root: it is refused as what was handed
// in, or the image holds a tree that stays below its root and reads as it was laid.
func FuzzBase(f *testing.F) {
	f.Add(tarball(f, e("./etc/"), e("./a->/etc"), e("./b->../../..")), tarball(f, e("./a/x=1"), e("./b/y=2")), "/etc/x\n")
	f.Add(tarball(f, e("./a/"), e("./a/b=1"), e("./c=>./a/b")), tarball(f, e("./a->c"), e("./bin/x=2"), e("./caf\xe9=3")), "")
	f.Add(tarball(f, e("./l->l"), e("./m->n"), e("./n->m")), tarball(f, e("./l/x=1")), "/n\nremove-on-upgrade /o\n")
	users := passwd(f)
	f.Fuzz(func(t *testing.T, one, two []byte, conffiles string) {
		pkgs := []Package{users, rawDeb("one", one, conffiles), rawDeb("two", two, "")}
		sp, err := newSpool(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer sp.Close()
		all, err := unpackAll(context.Background(), pkgs, sp, nil)
		var laid *tree
		if err == nil {
			laid, err = baseTree(all, testClock)
		}
		if err != nil {
			if fault.KindOf(err) != fault.Input || len(err.Error()) > 4<<10 {
				t.Fatalf("%v: %v", fault.KindOf(err), err)
			}
			return
		}
		out := tempFile(t)
		if _, err := writeErofs(context.Background(), out, laid, testClock); err != nil {
			t.Fatalf("a tree that was laid is not written: %v", err)
		}
		read := mustTree(t, out)
		want, got := texts(t, laid), texts(t, read)
		for _, name := range slices.Sorted(maps.Keys(want)) {
			if strings.Contains("/"+name+"/", "/../") || got[name] != want[name] {
				t.Fatalf("%q was laid as %.200q and reads as %.200q", name, want[name], got[name])
			}
		}
		if len(got) != len(want) {
			t.Fatalf("%d files were laid, %d are read", len(want), len(got))
		}
	})
}

// rawDeb is a package around a data.tar.
func rawDeb(name string, data []byte, conffiles string) Package {
	control := "Package: " + name + "\nVersion: 1.0\nArchitecture: amd64\nDescription: test\n"
	var b bytes.Buffer
	b.WriteString("!<arch>\n")
	for _, m := range []struct {
		name string
		data []byte
	}{
		{"debian-binary", []byte("2.0\n")},
		{"control.tar", tarball(&testing.T{}, e("control="+control), e("conffiles="+conffiles))},
		{"data.tar", data},
	} {
		fmt.Fprintf(&b, "%-16s%-12d%-6d%-6d%-8o%-10d`\n%s", m.name, 0, 0, 0, 0o644, len(m.data), m.data)
		if len(m.data)%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return Package{Name: name, Version: "1.0", Arch: "amd64", Open: opener(b.Bytes())}
}

// texts describes each file of a tree.
func texts(t *testing.T, tr *tree) map[string]string {
	t.Helper()
	all := map[string]string{}
	for name, n := range tr.all() {
		s := fmt.Sprintf("%o %d:%d %d %d %q %q", n.mode, n.uid, n.gid, n.mtime, n.rdev, n.link, n.xattrs)
		if n.mode&typeMask == typeFile && n.size > 0 {
			data, err := io.ReadAll(n.data())
			if err != nil || int64(len(data)) != n.size {
				t.Fatalf("%q: %d bytes of %d, %v", name, len(data), n.size, err)
			}
			s += fmt.Sprintf(" %q", data)
		}
		all[name] = s
	}
	return all
}
