package initramfs

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseModInfo(t *testing.T) {
	raw := "license=GPL\x00softdep=pre: crc32c sha-256 post: other\x00softdep=post: later\x00alias=crypto-crc32c\x00" +
		"alias=pci:v00001AF4d*\x00depends=virtio,virtio-ring\x00name=virtio-blk\x00vermagic=6.1 SMP\x00"
	want := ModInfo{
		Name: "virtio_blk", Depends: []string{"virtio", "virtio_ring"}, Soft: []string{"crc32c", "sha_256"},
		Aliases: []string{"crypto_crc32c", "pci:v00001AF4d*"},
	}
	if d := cmp.Diff(want, parseModInfo([]byte(raw))); d != "" {
		t.Error(d)
	}
}

func TestParseModuleRefuses(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string][]byte{"not ELF": []byte("hello"), "empty": nil, "no module": exe} {
		if info, err := ParseModule(raw); err == nil {
			t.Errorf("%s: taken for the module %q", name, info.Name)
		}
	}
}

func TestBuiltin(t *testing.T) {
	got := Builtin("kernel/fs/binfmt-misc.ko\nkernel/lib/crc16.ko.xz\n\n")
	if d := cmp.Diff(map[string]bool{"binfmt_misc": true, "crc16": true}, got); d != "" {
		t.Error(d)
	}
}

func TestLoadOrder(t *testing.T) {
	have := map[string]ModInfo{
		"blk":            {Depends: []string{"virtio", "ring"}},
		"virtio":         {Depends: []string{"ring"}},
		"ring":           {},
		"libcrc":         {Soft: []string{"crc32c"}},
		"fs":             {Depends: []string{"libcrc", "builtin"}, Soft: []string{"nowhere", "fs"}},
		"crc32c_generic": {Aliases: []string{"crc32c"}},
		"crc32c_fast":    {Aliases: []string{"crc32c", "crc*"}},
		"a":              {Depends: []string{"b"}},
		"b":              {Depends: []string{"a"}},
		"missing":        {Depends: []string{"nowhere"}},
	}
	builtin := map[string]bool{"builtin": true}
	cases := []struct {
		name   string
		wanted []string
		want   string // the order, or the error after '!'
	}{
		{"dependencies first, once", []string{"blk", "virtio"}, "ring virtio blk"},
		{"soft dependency by alias, the generic one", []string{"fs"}, "crc32c_generic libcrc fs"},
		{"built in needs no loading", []string{"builtin"}, ""},
		{"file names may use -", []string{"crc32c-fast"}, "crc32c_fast"},
		{"cycle", []string{"a"}, "!needs itself (wanted → a → b)"},
		{"unknown", []string{"nowhere"}, "!module nowhere is neither"},
		{"unknown dependency names its user", []string{"missing"}, "!wanted → missing"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := LoadOrder(c.wanted, have, builtin)
			if msg, fails := strings.CutPrefix(c.want, "!"); fails {
				if err == nil || !strings.Contains(err.Error(), msg) {
					t.Fatalf("got %v, want …%s…", err, msg)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("got %q, want %q", strings.Join(got, " "), c.want)
			}
		})
	}
}

// FuzzParseModule: a module comes out of a package, and must not be able to do more than be refused.
func FuzzParseModule(f *testing.F) {
	f.Add([]byte("\x7fELF\x02\x01\x01"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		info, err := ParseModule(raw)
		if err != nil {
			return
		}
		for _, d := range append(info.Depends, info.Soft...) {
			if d == "" || strings.ContainsAny(d, "-\x00") {
				t.Errorf("dependency %q", d)
			}
		}
	})
}
