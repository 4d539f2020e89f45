package initramfs

import (
	"errors"
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

// moduleMap is a kernel's modules in memory; the one called builtin is built in.
type moduleMap map[string]ModInfo

func (m moduleMap) Module(name string) (ModInfo, bool, error) {
	if name == "torn" {
		return ModInfo{}, false, errors.New("no ELF")
	}
	info, ok := m[name]
	return info, ok, nil
}
func (m moduleMap) Alias(alias string) (string, error) { return ByAlias(m)[alias], nil }
func (m moduleMap) Builtin(name string) bool           { return name == "builtin" || name == "crypto_builtin" }

func TestPresent(t *testing.T) {
	got, err := Present([]string{"a", "x-y", "nowhere"}, moduleMap{"a": {}, "x_y": {}})
	if d := cmp.Diff([]string{"a", "x-y"}, got); d != "" || err != nil {
		t.Error(d, err)
	}
	if _, err := Present([]string{"torn"}, moduleMap{}); err == nil {
		t.Error("a module that cannot be read was taken for one that is not there")
	}
}

func TestBuiltinAliases(t *testing.T) {
	raw := "sha256_generic.alias=crypto-sha256\x00sha256_generic.license=GPL\x00x.alias=pci:v1*\x00"
	if d := cmp.Diff(map[string]bool{"crypto_sha256": true, "pci:v1*": true}, BuiltinAliases([]byte(raw))); d != "" {
		t.Error(d)
	}
}

func TestParseDep(t *testing.T) {
	got, err := ParseDep("kernel/fs/ext4/ext4.ko.xz: kernel/lib/crc-16.ko.xz kernel/fs/jbd2/jbd2.ko.xz\n\n" +
		"# a remark\nkernel/lib/crc-16.ko.xz:\n")
	want := map[string][]string{"ext4": {"crc_16", "jbd2"}, "crc_16": nil}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Error(d, err)
	}
	if _, err := ParseDep("a.ko:\nrubbish\n"); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("got %v, want a fault of line 2", err)
	}
}

// FuzzParseDep: the lists come out of a package too.
func FuzzParseDep(f *testing.F) {
	f.Add("kernel/fs/ext4/ext4.ko: kernel/lib/crc16.ko\n")
	f.Add("x")
	f.Fuzz(func(t *testing.T, text string) {
		deps, err := ParseDep(text)
		if err != nil {
			return
		}
		for name, needs := range deps {
			for _, n := range append(needs, name) {
				if strings.ContainsAny(n, "/-\n") {
					t.Errorf("%q is no module's name", n)
				}
			}
		}
		BuiltinAliases([]byte(text))
		Builtin(text)
	})
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
	cases := []struct {
		name   string
		wanted []string
		want   string // the order, or the error after '!'
	}{
		{"dependencies first, once", []string{"blk", "virtio"}, "ring virtio blk"},
		{"soft dependency by alias, the generic one", []string{"fs"}, "crc32c_generic libcrc fs"},
		{"built in needs no loading", []string{"builtin"}, ""},
		{"file names may use -", []string{"crc32c-fast"}, "crc32c_fast"},
		{"wanted by alias", []string{"crc32c"}, "crc32c_generic"},
		{"wanted by the alias of what is built in", []string{"crypto-builtin"}, ""},
		{"unreadable", []string{"torn"}, "!no ELF"},
		{"cycle", []string{"a"}, "!needs itself (wanted → a → b)"},
		{"unknown", []string{"nowhere"}, "!module nowhere is neither"},
		{"unknown dependency names its user", []string{"missing"}, "!wanted → missing"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := LoadOrder(c.wanted, moduleMap(have))
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
