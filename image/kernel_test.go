package image

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ulikunitz/xz"

	"github.com/belljar/belljar/image/initramfs"
)

// module makes the least that is an ELF file with a .modinfo section.
func module(t testing.TB, modinfo string) string {
	t.Helper()
	names := "\x00.modinfo\x00.shstrtab\x00"
	const head, section = 64, 64
	infoAt := head
	namesAt := infoAt + len(modinfo)
	tableAt := namesAt + len(names)
	h := elf.Header64{
		Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1, Shoff: uint64(tableAt),
		Ehsize: head, Shentsize: section, Shnum: 3, Shstrndx: 2,
	}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	var b bytes.Buffer
	for _, part := range []any{
		h, []byte(modinfo), []byte(names), elf.Section64{},
		elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: uint64(infoAt), Size: uint64(len(modinfo))},
		elf.Section64{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: uint64(namesAt), Size: uint64(len(names))},
	} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// vmlinux makes an ELF whose only segment is a note.
func vmlinux(t testing.TB, name string, kind uint32) []byte {
	t.Helper()
	var note bytes.Buffer
	for _, v := range []uint32{uint32(len(name)), 4, kind} {
		_ = binary.Write(&note, binary.LittleEndian, v)
	}
	note.WriteString(name)
	note.Write(make([]byte, -note.Len()&3))
	note.WriteString("addr")
	h := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: 64,
		Ehsize: 64, Phentsize: 56, Phnum: 1, Shentsize: 64,
	}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	var b bytes.Buffer
	for _, part := range []any{h, elf.Prog64{
		Type: uint32(elf.PT_NOTE), Off: 120, Filesz: uint64(note.Len()), Memsz: uint64(note.Len()),
	}, note.Bytes(), make([]byte, 400)} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// bzImage wraps a gzipped kernel as the kernel's build does: gzip's own trailer ends in the size.
func bzImage(t testing.TB, kernel []byte) []byte {
	t.Helper()
	payload := gz(t, kernel)
	b := make([]byte, 1024, 1024+len(payload))
	b[offSetupSects] = 1
	copy(b[offHeaderMagic:], "HdrS")
	binary.LittleEndian.PutUint16(b[offVersion:], 0x20f)
	binary.LittleEndian.PutUint32(b[offPayloadLength:], uint32(len(payload)))
	return append(b, payload...)
}

func kernelDeb(t testing.TB, vmlinuz []byte, modules ...entry) io.Reader {
	t.Helper()
	entries := []entry{e("./boot/vmlinuz-6.1-test=" + string(vmlinuz)),
		e("./lib/modules/6.1-test/modules.builtin=kernel/drivers/virtio/virtio.ko\n")}
	r, err := deb(t, "linux-image", "", nil, append(entries, modules...)...).Open()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func allModules(t testing.TB) []entry {
	var all []entry
	for _, name := range initramfs.Wanted {
		all = append(all, e("./lib/modules/6.1-test/kernel/"+strings.ReplaceAll(name, "_", "-")+".ko="+
			module(t, "depends=ring,virtio\x00name="+name+"\x00")))
	}
	return append(all, e("./lib/modules/6.1-test/kernel/ring.ko="+module(t, "depends=\x00name=ring\x00")),
		e("./lib/modules/6.1-test/kernel/unused.ko="+module(t, "name=unused\x00")),
		e("./lib/modules/6.1-test/kernel/drivers/gpu/x.ko=not even a module"))
}

func TestExtractKernel(t *testing.T) {
	elfKernel := vmlinux(t, "Xen\x00", 18)
	noPVH, gnuNote := bzImage(t, vmlinux(t, "Xen\x00", 6)), bzImage(t, vmlinux(t, "GNU\x00", 18))
	for name, c := range map[string]struct {
		bz, want []byte
		file     string
	}{
		"with a PVH entry point":    {bzImage(t, elfKernel), elfKernel, "vmlinux"},
		"without":                   {noPVH, noPVH, "vmlinuz"},
		"with a note of GNU's only": {gnuNote, gnuNote, "vmlinuz"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			k, err := ExtractKernel(context.Background(), kernelDeb(t, c.bz, allModules(t)...), dir)
			if err != nil {
				t.Fatal(err)
			}
			if k.Release != "6.1-test" || k.Image != filepath.Join(dir, c.file) {
				t.Errorf("got %+v", k)
			}
			if got, err := os.ReadFile(k.Image); err != nil || !bytes.Equal(got, c.want) {
				t.Errorf("the kernel is not the package's (%v)", err)
			}
			want := []string{"ring.ko"}
			for _, m := range initramfs.Wanted {
				want = append(want, m+".ko")
			}
			var got []string
			for _, m := range k.Modules {
				got = append(got, filepath.Base(m))
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
			left, err := os.ReadDir(dir)
			kernels := 1
			if k.Image != k.Vmlinuz {
				kernels++
			}
			if err != nil || len(left) != len(want)+kernels {
				t.Errorf("the folder has %d files, want %d (%v)", len(left), len(want)+kernels, err)
			}
			if got, err := os.ReadFile(k.Vmlinuz); err != nil || !bytes.Equal(got, c.bz) {
				t.Errorf("vmlinuz is not the package's (%v)", err)
			}
		})
	}
}

// What else a package may have: compressed modules, modules.dep, System.map, algorithms that are built in.
func TestExtractKernelForms(t *testing.T) {
	const dir = "./lib/modules/6.1-test/"
	kernel := bzImage(t, vmlinux(t, "Xen\x00", 18))
	said := func(name, depends string) string { return module(t, "depends="+depends+"\x00name="+name+"\x00") }
	erofs := said("erofs", "ring")
	cases := []struct {
		name    string
		without string // the module of Wanted that the entries bring in another way
		entries []entry
		loads   []string // these, in this order, among others
		never   string
		drivers []string
	}{
		{"xz", "erofs", []entry{e(dir + "kernel/erofs.ko.xz=" + xzip(t, erofs))}, []string{"ring", "erofs"}, "", nil},
		{"zstd", "erofs", []entry{e(dir + "kernel/erofs.ko.zst=" + string(zst(t, []byte(erofs))))},
			[]string{"ring", "erofs"}, "", nil},
		{"gzip", "erofs", []entry{e(dir + "kernel/erofs.ko.gz=" + string(gz(t, []byte(erofs))))},
			[]string{"ring", "erofs"}, "", nil},
		{"modules.dep is believed", "",
			[]entry{e(dir + "modules.dep=kernel/erofs.ko: kernel/unused.ko\nkernel/unused.ko:\n")},
			[]string{"unused", "erofs"}, "", nil},
		{"SHA-256 is built in", "crypto_sha256",
			[]entry{e(dir + "modules.builtin.modinfo=sha256_generic.alias=crypto-sha256\x00")}, nil, "sha256_generic", nil},
		{"SHA-256 goes by another name", "crypto_sha256",
			[]entry{e(dir + "kernel/crypto/sha2.ko=" + module(t, "name=sha2\x00alias=crypto-sha256\x00"))},
			[]string{"sha2"}, "", nil},
		{"softdep", "erofs", []entry{
			e(dir + "kernel/erofs.ko=" + module(t, "name=erofs\x00softdep=pre: crypto-crc32c nowhere post: unused\x00")),
			e(dir + "kernel/crypto/crc32c_generic.ko=" + module(t, "name=crc32c_generic\x00alias=crypto-crc32c\x00")),
		}, []string{"crc32c_generic", "erofs"}, "unused", nil},
		{"drivers for other buses", "", []entry{
			e(dir + "kernel/ahci.ko=" + said("ahci", "libata")), e(dir + "kernel/libata.ko=" + said("libata", "ring")),
			e(dir + "kernel/nvme.ko=" + said("nvme", "")),
		}, []string{"ring"}, "ahci", []string{"libata", "ahci", "nvme"}},
		{"System.map", "", []entry{e("./boot/System.map-6.1-test=symbols")}, nil, "", nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			entries := c.entries
			for _, m := range allModules(t) {
				if !strings.HasPrefix(m.line, dir+"kernel/"+strings.ReplaceAll(c.without, "_", "-")+".ko=") {
					entries = append(entries, m)
				}
			}
			k, err := ExtractKernel(context.Background(), kernelDeb(t, kernel, entries...), t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			loads, at := moduleNames(t, k.Modules), -1
			for _, name := range c.loads {
				next := slices.Index(loads, name)
				if next <= at {
					t.Errorf("loads %q: want %q in this order", loads, c.loads)
				}
				at = next
			}
			if slices.Contains(loads, c.never) {
				t.Errorf("loads %s", c.never)
			}
			if d := cmp.Diff(c.drivers, moduleNames(t, k.Drivers)); d != "" {
				t.Error(d)
			}
			if (k.SystemMap != "") != (c.name == "System.map") {
				t.Errorf("System.map is %q", k.SystemMap)
			}
		})
	}
}

// moduleNames are the names of modules on the disk, which must be ones.
func moduleNames(t *testing.T, files []string) []string {
	t.Helper()
	var all []string
	for _, f := range files {
		all = append(all, strings.TrimSuffix(filepath.Base(f), ".ko"))
		if ko, err := os.ReadFile(f); err != nil || !bytes.HasPrefix(ko, []byte("\x7fELF")) {
			t.Errorf("%s is no module: %.8q (%v)", f, ko, err)
		}
	}
	return all
}

func xzip(t testing.TB, data string) string {
	t.Helper()
	var b bytes.Buffer
	w, err := xz.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestExtractKernelRefuses(t *testing.T) {
	good := bzImage(t, vmlinux(t, "Xen\x00", 18))
	noKernel, err := deb(t, "linux-image-amd64", "", nil, e("./usr/share/doc/x=1")).Open()
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name string
		deb  io.Reader
		want string
	}{
		{"metapackage", noKernel, "no /boot/vmlinuz-RELEASE"},
		{"no modules", kernelDeb(t, good), "erofs is neither"},
		{"no bzImage", kernelDeb(t, bytes.Repeat([]byte("x"), 4096), allModules(t)...), "no bzImage"},
		{"cut payload", kernelDeb(t, good[:len(good)-5], allModules(t)...), "payload"},
		{"a module that is none", kernelDeb(t, good, e("./lib/modules/6.1-test/kernel/erofs.ko=rubbish")),
			"erofs.ko"},
		{"a list that is none", kernelDeb(t, good, e("./lib/modules/6.1-test/modules.dep=rubbish")), "modules.dep: line 1"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := ExtractKernel(context.Background(), c.deb, t.TempDir())
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want …%s…", err, c.want)
			}
		})
	}
}

// FuzzKernel: a bzImage and the ELF in it come out of a package.
func FuzzKernel(f *testing.F) {
	f.Add(bzImage(f, vmlinux(f, "Xen\x00", 18)))
	f.Add(vmlinux(f, "Xen\x00", 18))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := hasPVH(bytes.NewReader(raw)); err == nil && !bytes.Contains(raw, []byte("Xen\x00")) {
			t.Error("found an entry point that is not there")
		}
		r, size, err := bzPayload(bytes.NewReader(raw))
		if err != nil {
			return
		}
		if size > maxVmlinux || size <= 0 {
			t.Errorf("payload of %d bytes", size)
		}
		z, err := decompress(r)
		if err != nil {
			return
		}
		defer z.Close()
		if _, err := io.CopyN(io.Discard, z, min(size, 1<<20)); err != nil && errors.Is(err, io.ErrNoProgress) {
			t.Error(err)
		}
	})
}
