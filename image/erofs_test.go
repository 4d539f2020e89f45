package image

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/belljar/belljar/fault"
)

// TestErofsKeepsLinks writes and reads a tree whose file has names in several folders.
func TestErofsKeepsLinks(t *testing.T) {
	tr := newTree()
	twin := &node{mode: typeFile | 0o2755, uid: 3, gid: 70000, mtime: 7, size: 4, data: inMemory([]byte("twin"))}
	for _, name := range []string{"usr/bin/perl", "usr/bin/perl5.36.0", "opt/x"} {
		if err := tr.put(name, twin); err != nil {
			t.Fatal(err)
		}
	}
	if err := tr.text("usr/bin/other", 0o755, testClock, "twin"); err != nil {
		t.Fatal(err)
	}
	out := tempFile(t)
	if _, err := writeErofs(context.Background(), out, tr, testClock); err != nil {
		t.Fatal(err)
	}
	got := mustTree(t, out)
	first := got.get("usr/bin/perl")
	if first != got.get("usr/bin/perl5.36.0") || first != got.get("opt/x") || first == got.get("usr/bin/other") {
		t.Error("the hard links are not those that were written")
	}
	if show(t, got, "opt/x") != `grwxr-xr-x 3:70000 "twin"` || first.mtime != 7 || first.owner != "test" {
		t.Errorf("the file came back as %s, %+v", show(t, got, "opt/x"), first)
	}
}

// TestErofsTellsWhoseFault: a disk that is full is the host's fault, a content that ends early is not.
func TestErofsTellsWhoseFault(t *testing.T) {
	tr := newTree()
	if err := tr.put("etc/x", &node{mode: typeFile, size: 9000, data: inMemory(make([]byte, 8000))}); err != nil {
		t.Fatal(err)
	}
	if _, err := writeErofs(context.Background(), tempFile(t), tr, testClock); err == nil ||
		err.Error() != "erofs: /etc/x: its content ends after 8000 of 9000 bytes" {
		t.Errorf("a short content gave %v", err)
	}
	if _, err := writeErofs(context.Background(), full{}, newTree(), testClock); !errors.Is(err, io.ErrShortWrite) ||
		fault.KindOf(err) != fault.Host {
		t.Errorf("a full disk gave %v", err)
	}
}

type full struct{}

func (full) WriteAt([]byte, int64) (int, error) { return 0, io.ErrShortWrite }
