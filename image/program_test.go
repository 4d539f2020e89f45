package image

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/belljar/belljar/fault"
)

func textDigest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func TestProgram(t *testing.T) {
	m := openBytes(t, "root", erofsOf(t, sampleTree(t)))
	toy := InstalledPackage{"toy", "1.0-1", "amd64", "install ok installed"}
	for _, c := range []struct {
		name, path string
		want       Program
		wrong      string
	}{
		{"of a package", "/usr/bin/toy", Program{"/usr/bin/toy", textDigest("#!/bin/sh\necho toy\n"), toy}, ""},
		{"by another of its names", "/usr/bin/toy-again", Program{"/usr/bin/toy", textDigest("#!/bin/sh\necho toy\n"), toy}, ""},
		{"of none", "/etc/group", Program{"/etc/group", textDigest("root:x:0:\nshadow:x:42:\n"), InstalledPackage{}}, ""},
		{"not there", "/usr/bin/no-such", Program{}, "it has no /usr/bin/no-such"},
		{"no file", "/usr/bin", Program{}, "/usr/bin is a folder, which cannot be run"},
		{"a link", "/etc/absolute", Program{}, "/etc/absolute is a symbolic link, which cannot be run"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := m.Program(c.path)
			if c.wrong != "" {
				if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), c.wrong) {
					t.Errorf("%v, want an input fault with %q", err, c.wrong)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
