package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestInstalled(t *testing.T) {
	want := []string{"bash 5.2.15-2+b2", "passwd 1:4.13+dfsg1-1"}
	for name, c := range map[string]struct {
		out       string
		simulated bool
	}{
		"-s": {"NOTE: This is only a simulation!\nInst passwd (1:4.13+dfsg1-1 Debian:12.0/stable [amd64])\n" +
			"Inst bash (5.2.15-2+b2 Debian:12.0/stable [amd64]) []\nConf bash (5.2.15-2+b2 Debian:12.0/stable [amd64])\n", true},
		"--print-uris": {"'http://m.example/debian/pool/main/s/shadow/passwd_4.13%2bdfsg1-1_amd64.deb' passwd_1%3a4.13+dfsg1-1_amd64.deb 1 MD5Sum:0\n" +
			"'http://m.example/debian/pool/main/b/bash/bash_5.2.15-2%2bb2_amd64.deb' bash_5.2.15-2+b2_amd64.deb 2 MD5Sum:0\n", false},
	} {
		got, err := installed(c.out, c.simulated)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
	if _, err := installed("'http://m.example/x' nonsense 1 MD5Sum:0\n", false); err == nil {
		t.Error("a file that is no package's was believed")
	}
}

func TestDifference(t *testing.T) {
	for _, c := range []struct{ apt, belljar, want string }{
		{"a 1,b 1", "a 1,b 1", ""},
		{"a 1,b 1", "a 1,c 1", "-b=1 +c=1"},
		{"a 2", "a 1", "-a=2 +a=1"},
	} {
		if got := difference(strings.Split(c.apt, ","), strings.Split(c.belljar, ",")); got != c.want {
			t.Errorf("%q against %q: %q, want %q", c.apt, c.belljar, got, c.want)
		}
	}
}

// TestExplained: an explanation fits one target, one name and one difference, whatever the versions, and must be needed.
func TestExplained(t *testing.T) {
	file := filepath.Join(t.TempDir(), "explained.txt")
	write := func(text string) (*explained, error) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return readExplained(file)
	}
	e, err := write("# what is meant\n\nbookworm/amd64 x -b +c # apt takes the first in its cache\nbookworm/i386 x -b +c # the same\n")
	if err != nil {
		t.Fatal(err)
	}
	amd64 := target{"bookworm", "amd64"}
	if !e.has(amd64, "x", "-b=1 +c=2") || e.has(amd64, "y", "-b=1 +c=2") || e.has(amd64, "x", "-b=1") || e.has(target{"trixie", "amd64"}, "x", "-b=1 +c=2") {
		t.Error("the wrong differences are explained")
	}
	if got := e.unused(); !slices.Equal(got, []string{file + ":4"}) {
		t.Errorf("unused: %q", got)
	}
	if _, err := write("bookworm/amd64 x -b +c\n"); err == nil || !strings.Contains(err.Error(), file+":1") {
		t.Errorf("without a reason: %v", err)
	}
	if e, err := readExplained(file + ".absent"); err != nil || len(e.lines) != 0 {
		t.Errorf("no file: %v", err)
	}
}
