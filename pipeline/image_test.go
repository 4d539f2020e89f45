package pipeline

import (
	"fmt"
	"strings"
	"testing"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/vm/fake"
)

func TestCheckDSC(t *testing.T) {
	h, _ := newHouse(t, fake.Script{})
	digest := strings.Repeat("ab", 32)
	text := fmt.Sprintf("Format: 3.0 (quilt)\nSource: toy\nVersion: 1-1\nChecksums-Sha256:\n %s 7 toy_1.orig.tar.gz\n"+
		"Files:\n %s 7 toy_1.orig.tar.gz\n", digest, strings.Repeat("cd", 16))
	dsc, err := h.store.PutBytes([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	dscFile := specs.File{Name: "toy_1-1.dsc", SHA256: string(dsc), Size: int64(len(text))}
	orig := specs.File{Name: "toy_1.orig.tar.gz", SHA256: digest, Size: 7}
	other := orig
	other.SHA256 = strings.Repeat("ef", 32)
	for _, test := range []struct {
		name  string
		files []specs.File
		want  string // in the error; empty: none
	}{
		{"agrees", []specs.File{dscFile, orig}, ""},
		{"another tarball", []specs.File{dscFile, other}, "toy_1.orig.tar.gz"},
		{"tarball missing", []specs.File{dscFile}, "toy_1.orig.tar.gz"},
		{"no .dsc", []specs.File{orig}, "no .dsc"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := checkDSC(h.store, specs.LockedSource{Name: "toy", Kind: specs.KindDebian, Files: test.files})
			switch {
			case test.want == "" && err != nil:
				t.Fatal(err)
			case test.want != "" && (fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want an input fault with %q", err, test.want)
			}
		})
	}
}
