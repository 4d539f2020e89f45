package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belljar/belljar/image/debian"
	"github.com/belljar/belljar/specs"
)

// exported is the result of 'belljar image export --json', as far as the tests look at it.
type exported struct {
	Path, SHA256, Kernel, Arch string
	Size                       int64
}

// export hands the image of a shipped guest over.
func export(t testing.TB, b *belljar, guest, format string) exported {
	t.Helper()
	var r exported
	out := filepath.Join(b.cwd, guest+"."+format)
	b.succeed("image", "export", "seabios", "--guest", guest, "--format", format, "--output", out, "--json").result(t, &r)
	return r
}

// ovmf are the arguments that boot a disk under UEFI, with Debian's firmware. The 32-bit one
// needs system management mode, and a flash for its variables.
func ovmf(arch string) []string {
	const dir = "/usr/share/OVMF/"
	if arch == "i686" {
		return []string{
			"qemu-system-i386", "-machine", "q35,smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on",
			"-drive", "if=pflash,format=raw,readonly=on,file=" + dir + "OVMF32_CODE_4M.secboot.fd",
			"-drive", "if=pflash,format=raw,snapshot=on,file=" + dir + "OVMF32_VARS_4M.fd",
		}
	}
	return []string{
		"qemu-system-x86_64", "-machine", "q35",
		"-drive", "if=pflash,format=raw,readonly=on,file=" + dir + "OVMF_CODE_4M.fd",
	}
}

// An exported disk boots under plain QEMU, from its own boot loader, to a shell that does what it is told, on the
// serial port and on the screen. The root that it finds, and the guest's kernel checks by dm-verity, is the one that an
// exported squashfs holds.
func TestExportedDiskBoots(t *testing.T) {
	needMachines(t)
	b := onShared(t)
	b.succeed("image", "build", "seabios", "--guest", guest64)
	disk, squash := export(t, b, guest64, "qcow2"), export(t, b, guest64, "squashfs")
	module := squashfsModule(t, b)
	m := bootExported(t, disk,
		"-drive", "file="+squash.Path+",format=raw,if=virtio,readonly=on",
		"-drive", "file="+module+",format=raw,if=virtio,readonly=on")
	m.says("kernel", "uname -r", disk.Kernel)
	m.says("the root's file system", "grep -c '^/dev/dm-0 .* erofs ' /proc/mounts", "1")
	m.says("who", "id -un", "root")
	m.says("the screen", "grep -c 'a shell after' /dev/vcs1", "1")
	m.says("a configured system", "dpkg --audit; dpkg-query -W -f='${Status}\\n' | sort | uniq -c | wc -l", "1")
	// The guest's kernel reads the squashfs as it does the root.
	m.says("squashfs", "cat /dev/vdb >/tmp/squashfs.ko; /belljar/bin/busybox insmod /tmp/squashfs.ko && "+
		"mkdir /tmp/s && mount -t squashfs -o ro /dev/vda /tmp/s && grep -c squashfs /proc/mounts", "1")
	same := "for d in /tmp/s /belljar/lower; do (cd $d; find . -printf '%P %y %m %U %G %T@ %l\\n' | sort; " +
		"find . -type f -printf '%P %s %n\\n' | sort; sha256sum usr/bin/*) 2>&1 | sha256sum; done | uniq | wc -l"
	m.says("the same tree", same, "1")
	m.powerOff()
}

// The same of the 32-bit guest, whose firmware is another, and of the raw format.
func TestSlowExportedDiskBoots32(t *testing.T) {
	needMachines(t)
	if os.Getenv("BELLJAR_SLOW") != "1" {
		t.Skip("boots the other guest; asked for by BELLJAR_SLOW=1")
	}
	b := onShared(t)
	b.succeed("image", "build", "seabios", "--guest", guest32)
	disk := export(t, b, guest32, "raw")
	m := bootExported(t, disk)
	m.says("kernel", "uname -r", disk.Kernel)
	m.says("machine", "uname -m", "i686")
	m.says("the screen", "grep -c 'a shell after' /dev/vcs1", "1")
	m.powerOff()
}

// podman loads an exported stage as an image, and its programs run from there.
func TestSlowStageToPodman(t *testing.T) {
	needMachines(t)
	if os.Getenv("BELLJAR_SLOW") != "1" {
		t.Skip("wants podman; asked for by BELLJAR_SLOW=1")
	}
	b := onShared(t)
	spec := b.spec("answer", `name: answer
guests: [debian-bookworm-x86_64]
sources:
  - {name: seabios, debian: seabios, version: 1.16.2-1}
stages:
  - name: build
    packages: [acpica-tools, gcc, libc6-dev, make, python3]
    script: |
      mkdir -p "$OUT/tool/bin"
      echo 'int main(void) { return 42; }' >answer.c
      gcc -static -o "$OUT/tool/bin/answer" answer.c
      ln -s answer "$OUT/tool/bin/same"
      cp answer.c "$OUT/"
    outputs: [tool/, answer.c]
artifacts:
  - {name: answer.c, stage: build, path: answer.c}
smoke: []
`)
	b.succeed("build", spec)
	b.succeed("stage", "export", spec+"#build", "--format", "oci")
	root := t.TempDir()
	podman := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("podman", append([]string{"--root", filepath.Join(root, "images"), "--runroot", filepath.Join(root, "run")}, args...)...)
		cmd.Dir = b.cwd
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%q: %v\n%s", cmd.Args, err, stderr.Bytes())
		}
		return strings.TrimSpace(string(out))
	}
	contains(t, "podman load", podman("load", "--input", "build.oci.tar"), "Loaded image: localhost/answer-build:debian-bookworm-x86_64")
	folder := podman("image", "mount", "localhost/answer-build:debian-bookworm-x86_64")
	defer podman("image", "umount", "--all")
	err := exec.Command(filepath.Join(folder, "tool/bin/same")).Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 42 {
		t.Errorf("the program ended with %v, want 42", err)
	}
}

// machineAt is a guest that somebody sits at.
type machineAt struct {
	t     testing.TB
	cmd   *exec.Cmd
	in    io.Writer
	ended chan error

	mu   sync.Mutex
	text bytes.Buffer
	seen int
}

// bootExported boots a disk as its user would, and waits for the shell.
func bootExported(t testing.TB, disk exported, more ...string) *machineAt {
	t.Helper()
	args := ovmf(disk.Arch)
	args = append(args, "-m", "1G", "-smp", "2", "-accel", "tcg", "-nic", "none", "-display", "none", "-no-reboot",
		"-serial", "stdio", "-drive", "file="+disk.Path+",format="+strings.TrimPrefix(filepath.Ext(disk.Path), ".")+",snapshot=on")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	cmd := exec.CommandContext(ctx, args[0], append(args[1:], more...)...)
	m := &machineAt{t: t, cmd: cmd, ended: make(chan error, 1)}
	cmd.Stdout, cmd.Stderr = m, m
	in, err := cmd.StdinPipe()
	must(t, err)
	m.in = in
	must(t, cmd.Start())
	go func() { m.ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cancel()
		<-m.ended
		if t.Failed() {
			t.Logf("%q said:\n%s", cmd.Args, m.tail())
		}
	})
	began := time.Now()
	m.wait(regexp.MustCompile(`belljar: a shell after [0-9.]+ s`))
	t.Logf("%s: a shell %s after power-on", filepath.Base(disk.Path), time.Since(began).Round(time.Second))
	return m
}

func (m *machineAt) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.text.Write(p)
}

func (m *machineAt) tail() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.text.Bytes()
	return string(b[max(0, len(b)-6000):])
}

// wait waits until what was not waited for yet fits, and returns its first group.
func (m *machineAt) wait(want *regexp.Regexp) string {
	m.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		m.mu.Lock()
		rest := m.text.Bytes()[m.seen:]
		at := want.FindSubmatchIndex(rest)
		if at != nil {
			m.seen += at[1]
			got := rest[at[len(at)-2]:at[len(at)-1]]
			m.mu.Unlock()
			return string(got)
		}
		m.mu.Unlock()
		select {
		case err := <-m.ended:
			m.ended <- err
			m.t.Fatalf("the machine ended (%v) before it said %s", err, want)
		default:
		}
	}
	m.t.Fatalf("no %s within %s", want, patience)
	return ""
}

// says types a command and holds its last line of output against what it should be.
func (m *machineAt) says(what, command, want string) {
	m.t.Helper()
	// The answer is marked by a word that the command line itself, which the terminal echoes, does not have.
	fmt.Fprintf(m.in, "echo \"<<$(%s | tail -n 1)>>\"\n", command)
	got := strings.TrimSpace(m.wait(regexp.MustCompile(`[\r\n]<<([^$\n]*)>>\r?\n`)))
	if got != want {
		m.t.Errorf("%s: %s says %q, want %q", what, command, got, want)
	}
}

func (m *machineAt) powerOff() {
	m.t.Helper()
	fmt.Fprintln(m.in, "poweroff")
	select {
	case err := <-m.ended:
		m.ended <- err
		must(m.t, err)
	case <-time.After(patience):
		m.t.Error("it does not power off")
	}
}

// squashfsModule is the driver from the locked kernel's package, as a disk: an exported root has no kernel in it.
func squashfsModule(t testing.TB, b *belljar) string {
	t.Helper()
	loaded, err := specs.Load("seabios")
	must(t, err)
	lock, err := specs.LoadLock(loaded, "")
	must(t, err)
	packages := lock.Guests[guest64].Packages
	at := slices.IndexFunc(packages, func(p specs.Package) bool { return p.Kernel })
	sum := packages[at].SHA256
	f, err := os.Open(filepath.Join(b.dir, "store", "objects", sum[:2], sum))
	must(t, err)
	defer f.Close()
	deb, err := debian.OpenDebNamed("kernel", f)
	must(t, err)
	defer deb.Close()
	for {
		h, err := deb.Next()
		if errors.Is(err, io.EOF) {
			t.Fatal("the kernel has no squashfs.ko")
		}
		must(t, err)
		if path.Base(h.Name) != "squashfs.ko" {
			continue
		}
		data, err := io.ReadAll(deb)
		must(t, err)
		name := filepath.Join(t.TempDir(), "module")
		must(t, os.WriteFile(name, append(data, make([]byte, -len(data)&4095)...), 0o600))
		return name
	}
}
