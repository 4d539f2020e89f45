package initramfs

import (
	"bytes"
	_ "embed"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

//go:embed pid1.sh
var pid1Script string

// Ciphers that sshd in the guest offers: the fastest under emulation first. The host's client must offer one.
const Ciphers = "chacha20-poly1305@openssh.com,aes128-gcm@openssh.com"

// File is a file for the archive: its size must be known before it is read.
type File struct {
	Name string
	Mode uint32 // permission bits; 0 means 0644
	Size int64
	Open func() (io.ReadCloser, error)
}

// Bytes is a File in memory.
func Bytes(name string, mode uint32, data []byte) File {
	return File{Name: name, Mode: mode, Size: int64(len(data)), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	}}
}

// Config is what an initramfs is made of. Of init, busybox and agent, Name and Mode do not matter.
type Config struct {
	Init    File      // guest-agent/init for the guest's architecture
	Busybox File      // the static busybox binary, whose shell runs process 1
	Agent   File      // the guest-agent, which comes to lie in /belljar; not in what boots by itself
	Modules []File    // kernel modules (.ko, not compressed), in the order in which they must be loaded
	Lean    bool      // the modules without their signatures and their types for BPF: quicker, but not for Secure Boot
	Drivers []File    // more modules, loaded after them, of which any may find nothing to do: for what boots by itself
	Clock   time.Time // mtime of every file
}

// Build writes the initramfs of a guest: the same bytes from the same config.
func Build(w io.Writer, c Config) error {
	c.Init.Name, c.Init.Mode = "init", 0o755
	c.Busybox.Name, c.Busybox.Mode = "bin/busybox", 0o755
	files := []File{
		c.Init, c.Busybox, Bytes("pid1", 0o644, []byte(strings.ReplaceAll(pid1Script, "@CIPHERS@", Ciphers))),
	}
	if c.Agent.Open != nil {
		c.Agent.Name, c.Agent.Mode = "agent", 0o755
		files = append(files, c.Agent)
	}
	if c.Lean {
		var err error
		if c.Modules, err = leanFiles(c.Modules); err != nil {
			return err
		}
	}
	for i, rest := 0, c.Modules; i < len(groups); i++ {
		end := behind(rest, groups[i].wanted)
		if i == len(groups)-1 {
			end = len(rest)
		}
		files = append(files, modules("modules/"+groups[i].list, rest[:end])...)
		rest = rest[end:]
	}
	if len(c.Drivers) > 0 {
		files = append(files, modules("modules/drivers", c.Drivers)...)
	}
	dirs := []string{"belljar", "bin", "dev", "modules", "proc", "root", "sys"}
	links := map[string]string{"bin/sh": "busybox"}
	return write(w, c.Clock, dirs, links, files)
}

// behind is where in the order of loading the last of these modules is behind us. Where all are built in, that is the start.
func behind(all []File, names []string) int {
	for i, m := range slices.Backward(all) {
		if slices.Contains(names, ModuleName(m.Name)) {
			return i + 1
		}
	}
	return 0
}

// modules are the files of these modules, and the list that init reads: a file name a line, and the parameters.
func modules(list string, all []File) []File {
	var order strings.Builder
	var files []File
	for _, m := range all {
		name := m.Name[strings.LastIndexByte(m.Name, '/')+1:]
		order.WriteString(strings.TrimSpace(name+" "+parameters[ModuleName(name)]) + "\n")
		m.Name = "modules/" + name
		files = append(files, m)
	}
	return append(files, Bytes(list, 0o644, []byte(order.String())))
}

// RunFiles writes the archive of one run's own files (ssh_host_ed25519_key, authorized_keys, …), which the guest
// finds in /belljar. It is appended to the initramfs: the kernel unpacks concatenated archives one after another.
func RunFiles(w io.Writer, files []File) error {
	files = slices.Clone(files)
	for i := range files {
		if strings.Contains(files[i].Name, "/") {
			return fmt.Errorf("run file %q: folders are not supported", files[i].Name)
		}
		files[i].Name = "run-files/" + files[i].Name
	}
	return write(w, time.Unix(0, 0), []string{"run-files"}, nil, files)
}

// write lays the entries out sorted by name, which also puts every folder before what is in it.
func write(w io.Writer, clock time.Time, dirs []string, links map[string]string, files []File) error {
	type entry struct {
		Header
		data func() (io.ReadCloser, error)
	}
	mtime := uint32(clock.Unix())
	var all []entry
	for _, d := range dirs {
		all = append(all, entry{Header{Name: d, Mode: TypeDir | 0o755, MTime: mtime}, nil})
	}
	for name, target := range links {
		f := Bytes(name, 0, []byte(target))
		all = append(all, entry{Header{Name: name, Mode: TypeLink | 0o777, MTime: mtime, Size: f.Size}, f.Open})
	}
	for _, f := range files {
		mode := f.Mode
		if mode == 0 {
			mode = 0o644
		}
		all = append(all, entry{Header{Name: f.Name, Mode: TypeFile | mode, MTime: mtime, Size: f.Size}, f.Open})
	}
	slices.SortFunc(all, func(a, b entry) int { return strings.Compare(a.Name, b.Name) })
	cw := NewWriter(w)
	for i, e := range all {
		if i > 0 && all[i-1].Name == e.Name {
			return fmt.Errorf("initramfs: %s is there twice", e.Name)
		}
		if err := cw.WriteHeader(e.Header); err != nil {
			return err
		}
		if e.Size == 0 {
			continue
		}
		if err := copyFile(cw, e.data); err != nil {
			return fmt.Errorf("initramfs: %s: %w", e.Name, err)
		}
	}
	return cw.Close()
}

func copyFile(w io.Writer, open func() (io.ReadCloser, error)) error {
	r, err := open()
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(w, r)
	return err
}

// Cmdline is the kernel's command line. The console is the first serial port; a panic resets at once (QEMU, told not
// to reboot, then ends). What follows is for speed and for sameness: mitigations guard secrets that a sealed guest
// does not have; the checks of timer and clock misjudge a busy host's emulation, and so does the stall detector;
// addresses are not drawn by lot, so that a program whose output depends on them gives the same output every time; the
// kernel's ciphers and hashes need not be tried at each boot: the one that is used, SHA-256, has every block of the root
// to prove itself on. What each is worth stands in docs/performance.md.
const Cmdline = "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check tsc=reliable nowatchdog " +
	"rcupdate.rcu_cpu_stall_suppress=1 random.trust_cpu=on nokaslr norandmaps cryptomgr.notests"

// SelfBoot is what init has to be told, behind Cmdline, on a disk that boots by itself: the label of the root's
// partition, and, where the partition with that label and '-verity' has its hash tree, the root hash ("" for none).
func SelfBoot(label, rootHash string) string {
	s := "belljar.console belljar.root=PARTLABEL=" + label
	if rootHash != "" {
		s += " " + Verity(rootHash)
	}
	return s
}

// Verity tells init the root hash of the root's hash tree.
func Verity(rootHash string) string { return "belljar.verity=" + rootHash }
