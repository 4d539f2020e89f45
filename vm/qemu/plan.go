package qemu

import (
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/confine"
)

// parts is what a QEMU is made of, as far as Landlock has to know.
type parts struct {
	binary string // real path
	loader string // its dynamic loader; empty for a static program
	script bool   // it is a script around QEMU, which may run whatever programs
}

// findParts looks into the program.
func findParts(binary string) (parts, error) {
	real, err := filepath.EvalSymlinks(binary)
	if err != nil {
		return parts{}, fmt.Errorf("find qemu's parts: %w", err)
	}
	p := parts{binary: real}
	f, err := elf.Open(real)
	if err != nil {
		p.script = true
		return p, nil //nolint:nilerr // what is no ELF is a script, or exec(2) says what it is
	}
	defer f.Close()
	for _, s := range f.Progs {
		if s.Type == elf.PT_INTERP {
			name, err := io.ReadAll(io.LimitReader(s.Open(), 4096))
			if err != nil {
				return parts{}, fmt.Errorf("find qemu's loader: %w", err)
			}
			p.loader = strings.TrimRight(string(name), "\x00")
		}
	}
	return p, nil
}

// Where libraries and firmware lie: the system's, and those below the folder that QEMU was installed to.
var (
	libraries = []string{"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/etc/ld.so.preload"}
	stores    = []string{"/nix/store", "/gnu/store"} // all that a program there needs lies there
	firmware  = []string{
		"qemu", "qemu-kvm", "qemu-firmware", "seabios", "seavgabios", "sgabios", "vgabios", "ipxe", "OVMF", "ovmf", "edk2",
	}
	// Debian's qemu-system-i386 is a script, and what it runs lies in libexec.
	programs = []string{"/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/libexec"}
	// kernel is what QEMU and its libraries ask of the host's memory and processors.
	kernel = []string{"/sys/devices/system/cpu", "/sys/devices/system/node", "/sys/kernel/mm/transparent_hugepage"}
)

// paths are the files of the QEMU itself, for reading.
func (p parts) paths() []confine.Path {
	var all []confine.Path
	add := func(a confine.Access, paths ...string) {
		for _, path := range paths {
			all = append(all, confine.Path{Path: path, Access: a})
		}
	}
	add(confine.Execute, p.binary)
	if p.loader != "" {
		add(confine.Execute, p.loader)
	}
	lib := confine.Read
	if p.script {
		lib = confine.Execute
		add(lib, programs...)
	}
	add(lib, libraries...)
	for _, store := range stores {
		if strings.HasPrefix(p.binary, store+"/") {
			add(lib, store)
		}
	}
	prefix := filepath.Dir(filepath.Dir(p.binary))
	if prefix != "/usr" && prefix != "/" {
		add(lib, filepath.Join(prefix, "lib"), filepath.Join(prefix, "lib64"))
	}
	for _, name := range firmware {
		add(confine.Read, filepath.Join(prefix, "share", name))
		if p.script && prefix != "/usr" { // the QEMU that it runs is most likely the system's
			add(confine.Read, filepath.Join("/usr/share", name))
		}
	}
	add(confine.Read, filepath.Join(prefix, "lib", "ipxe"))
	add(confine.Read, kernel...)
	return all
}

// plan is what the QEMU of m may do to the host. Started by root it may not be able to reach the machine's files: then
// files are those that it gets open (see handOver).
func plan(m vm.Machine, q parts, dir string, files []confine.File) confine.Plan {
	p := confine.Plan{Paths: q.paths(), Files: files, Threads: maxThreads(m)}
	add := func(path string, a confine.Access) { p.Paths = append(p.Paths, confine.Path{Path: path, Access: a}) }
	add("/dev/null", confine.Write)
	add("/dev/urandom", confine.Read)
	if m.Accel == vm.KVM {
		add("/dev/kvm", confine.Device)
	}
	for _, path := range []string{m.Boot.Kernel, m.Boot.Initrd, m.Boot.ROM} {
		if path != "" {
			add(path, confine.Read)
		}
	}
	if m.Boot.Vars != "" && files == nil {
		add(m.Boot.Vars, confine.Write)
	}
	for _, d := range m.Disks {
		switch {
		case files != nil: // it has no need to open them
		case d.ReadOnly:
			add(d.Path, confine.Read)
		default:
			add(d.Path, confine.Write)
		}
	}
	add(dir, confine.Folder)
	return p
}

// handOver is m with its files by the numbers under which they are handed over, those files, and the flags that tell
// QEMU. Disks become fd sets (-add-fd), which QEMU asks the kernel nothing more for. What QEMU loads at power-on it opens
// by name itself: by /proc/self/fd, where all but the file's own mode is behind it.
func handOver(m vm.Machine) (vm.Machine, []confine.File, []string) {
	var files []confine.File
	var flags []string
	give := func(f confine.File) int {
		files = append(files, f)
		return confine.FirstFile + len(files) - 1
	}
	sets := 0
	set := func(path *string, write bool) {
		sets++
		flags = append(flags, "-add-fd", fmt.Sprintf("fd=%d,set=%d", give(confine.File{Path: *path, Write: write}), sets))
		*path = fmt.Sprintf("/dev/fdset/%d", sets)
	}
	loaded := []*string{&m.Boot.Kernel, &m.Boot.Initrd, &m.Boot.ROM}
	if m.Boot.Vars != "" { // flash chips are block devices
		loaded = loaded[:2]
	}
	for _, path := range loaded {
		if *path != "" {
			*path = fmt.Sprintf("/proc/self/fd/%d", give(confine.File{Path: *path, Copy: true}))
		}
	}
	m.Disks = append([]vm.Disk(nil), m.Disks...)
	for i := range m.Disks {
		set(&m.Disks[i].Path, !m.Disks[i].ReadOnly)
	}
	if m.Boot.Vars != "" {
		set(&m.Boot.ROM, false)
		set(&m.Boot.Vars, true)
	}
	return m, files, flags
}

// maxThreads is above what QEMU takes: a thread a processor, up to 64 for the disks, a few others.
func maxThreads(m vm.Machine) int { return m.CPUs + 256 }

// What QEMU takes beside the guest's memory: itself and a part that grows with the guest; and under TCG the translated
// code, for which it takes up to 1 GiB (tb-size in its manual).
const (
	overheadFixed = 512 << 20
	overheadTCG   = 1 << 30
)

// limits are those of the machine's cgroup. One processor's time is for all but the guest's own processors.
func limits(m vm.Machine) confine.Limits {
	memory := m.Memory + m.Memory/4 + overheadFixed
	if m.Accel == vm.TCG {
		memory += overheadTCG
	}
	return confine.Limits{Memory: memory, CPUs: m.CPUs + 1, Tasks: maxThreads(m)}
}

// reachable says why another user could not run the program; nil if he could.
func reachable(program string) error {
	for path := program; ; path = filepath.Dir(path) {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o001 == 0 {
			return fmt.Errorf("others than its owner may not run %s: see the mode of %s", program, path)
		}
		if path == filepath.Dir(path) {
			return nil
		}
	}
}
