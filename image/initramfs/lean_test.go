package initramfs

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
)

// koOf makes the least that is a module of that class with the sections .modinfo and .BTF.
func koOf(t testing.TB, class elf.Class) []byte {
	t.Helper()
	const info, types, names = "name=virtio\x00", "types for BPF", "\x00.modinfo\x00.BTF\x00.shstrtab\x00"
	var parts []any
	if class == elf.ELFCLASS64 {
		at := uint64(binary.Size(elf.Header64{}))
		h := elf.Header64{
			Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1, Shentsize: 64, Shnum: 4, Shstrndx: 3,
			Ehsize: 64, Shoff: at + uint64(len(info+types+names)),
		}
		copy(h.Ident[:], "\x7fELF\x02\x01\x01")
		parts = []any{
			h, []byte(info + types + names), elf.Section64{},
			elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: at, Size: uint64(len(info))},
			elf.Section64{Name: 10, Type: uint32(elf.SHT_PROGBITS), Off: at + uint64(len(info)), Size: uint64(len(types))},
			elf.Section64{Name: 15, Type: uint32(elf.SHT_STRTAB), Off: at + uint64(len(info+types)), Size: uint64(len(names))},
		}
	} else {
		at := uint32(binary.Size(elf.Header32{}))
		h := elf.Header32{
			Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_386), Version: 1, Shentsize: 40, Shnum: 4, Shstrndx: 3,
			Ehsize: 52, Shoff: at + uint32(len(info+types+names)),
		}
		copy(h.Ident[:], "\x7fELF\x01\x01\x01")
		parts = []any{
			h, []byte(info + types + names), elf.Section32{},
			elf.Section32{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: at, Size: uint32(len(info))},
			elf.Section32{Name: 10, Type: uint32(elf.SHT_PROGBITS), Off: at + uint32(len(info)), Size: uint32(len(types))},
			elf.Section32{Name: 15, Type: uint32(elf.SHT_STRTAB), Off: at + uint32(len(info+types)), Size: uint32(len(names))},
		}
	}
	var b bytes.Buffer
	for _, p := range parts {
		if err := binary.Write(&b, binary.LittleEndian, p); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// sign appends a signature of that many bytes, which claims to have claimed.
func sign(ko []byte, size int, claimed uint32) []byte {
	b := append(bytes.Clone(ko), bytes.Repeat([]byte{0xaa}, size)...)
	b = append(b, make([]byte, signatureSize-4)...)
	return append(binary.BigEndian.AppendUint32(b, claimed), signed...)
}

func TestLean(t *testing.T) {
	for _, class := range []elf.Class{elf.ELFCLASS32, elf.ELFCLASS64} {
		t.Run(class.String(), func(t *testing.T) {
			ko := koOf(t, class)
			whole := bytes.Clone(ko)
			for name, in := range map[string][]byte{"signed": sign(ko, 300, 300), "unsigned": ko} {
				got, err := lean(in)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if len(got) != len(ko) {
					t.Errorf("%s: %d bytes are left, want %d", name, len(got), len(ko))
				}
				f, err := elf.NewFile(bytes.NewReader(got))
				if err != nil {
					t.Fatal(err)
				}
				if s := f.Section(".BTF"); s.Size != 0 {
					t.Errorf("%s: .BTF has %d bytes", name, s.Size)
				}
				if s := f.Section(".modinfo"); s.Size == 0 {
					t.Errorf("%s: .modinfo is empty too", name)
				}
				again, err := lean(got)
				if err != nil || !bytes.Equal(again, got) {
					t.Errorf("%s: once more is something else, %v", name, err)
				}
			}
			if !bytes.Equal(ko, whole) {
				t.Error("the module that was given has changed")
			}
		})
	}
}

func TestLeanRefuses(t *testing.T) {
	ko := koOf(t, elf.ELFCLASS64)
	for name, c := range map[string]struct {
		in   []byte
		want string
	}{
		"no ELF":                      {bytes.Repeat([]byte("hello"), 20), "bad magic number"},
		"a signature longer than all": {sign(ko, 10, 1<<31), "signature has 2147483648 bytes"},
		"nothing but the end":         {[]byte(signed), "0 bytes before the end of its signature"},
	} {
		if _, err := lean(c.in); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want …%s…", name, err, c.want)
		}
	}
	gone := errors.New("gone")
	c := config()
	c.Lean = true
	c.Modules = []File{{Name: "x.ko", Open: func() (io.ReadCloser, error) { return nil, gone }}}
	if err := Build(io.Discard, c); !errors.Is(err, gone) {
		t.Errorf("a module that cannot be read: %v", err)
	}
}

// FuzzLean: whatever a package calls a module, it does not panic, and never grows.
func FuzzLean(f *testing.F) {
	f.Add(koOf(f, elf.ELFCLASS64))
	f.Add(koOf(f, elf.ELFCLASS32))
	f.Add(sign(koOf(f, elf.ELFCLASS32), 5, 5))
	f.Fuzz(func(t *testing.T, ko []byte) {
		got, err := lean(ko)
		if err == nil && len(got) > len(ko) {
			t.Errorf("%d bytes of %d", len(got), len(ko))
		}
	})
}
