package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"github.com/belljar/belljar/image"
)

// disksWord is the word of the kernel's command line that names the disks.
var disksWord = regexp.MustCompile(`belljar\.disks=\S+`)

// console boots the guest in a plain QEMU, on that processor of the host's, and types the script in at its console.
func (b *bench) console(ctx context.Context, cpu string) (_ sample, err error) {
	scratch := filepath.Join(b.dir, "scratch"+cpu+".img")
	if err := image.Scratch(scratch, 8<<30); err != nil {
		return nil, err
	}
	defer os.Remove(scratch)
	cmdline := disksWord.ReplaceAllString(b.boot.Cmdline, "belljar.disks=root,scratch,sources") + " belljar.console"
	args := []string{
		"-accel", "tcg,thread=multi", "-machine", "pc-q35-6.2", "-cpu", "Nehalem-v1", "-smp", "2", "-m", "2048",
		"-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio",
		"-kernel", b.boot.Kernel, "-initrd", b.boot.Initrd, "-append", cmdline,
	}
	for _, d := range []struct{ serial, options string }{
		{"root", "readonly=on,file=" + b.root}, {"scratch", "file=" + scratch}, {"sources", "readonly=on,file=" + b.tar},
	} {
		args = append(args, "-drive", "if=none,format=raw,id="+d.serial+","+d.options,
			"-device", "virtio-blk-pci,drive="+d.serial+",serial="+d.serial)
	}
	cmd := exec.CommandContext(ctx, qemu, append(args, b.pluginArgs()...)...)
	pin(cmd, cpu)
	cmd.Dir = b.dir // where the plugin leaves its counts
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer func() {
		_ = cmd.Process.Kill() // its disk is thrown away
		_ = cmd.Wait()
	}()
	w := newWatch(func() used { return now(fmt.Sprintf("/proc/%d", cmd.Process.Pid)) })
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		switch {
		case bytes.Contains(lines.Bytes(), []byte("a shell after")):
			go b.typeIn(in)
		default:
			w.line(lines.Text())
		}
		if w.over {
			return w.all, nil
		}
	}
	return nil, errors.New("QEMU ended before the script did")
}

// typeIn types as a person would: the sources are laid in place, and the script is run as the stage's user, with the
// stage's environment. What is typed is not echoed, for the marks in it are none yet.
func (b *bench) typeIn(to io.Writer) {
	text := `mkdir -p /build/sources /build/stages /build/out /build/work
tar -xf /dev/vdc -C /build/sources
cat >/build/script <<'END-OF-SCRIPT'
` + script(b.execs) + `END-OF-SCRIPT
chown -R 1000:1000 /build
cd /build/work
env -i SOURCES=/build/sources STAGES=/build/stages OUT=/build/out HOME=/build/home LC_ALL=C.UTF-8 TZ=UTC \
 PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin SOURCE_DATE_EPOCH=1704067200 \
 chroot --userspec=1000:1000 / /bin/sh -euc 'cd /build/work; exec /bin/sh -eu /build/script'
`
	time.Sleep(3 * time.Second) // the shell's own start
	_, _ = io.WriteString(to, "stty -echo; PS1=; PS2=\n")
	time.Sleep(2 * time.Second)
	for _, line := range bytes.SplitAfter([]byte(text), []byte("\n")) {
		_, _ = to.Write(line)
		time.Sleep(50 * time.Millisecond) // a serial port holds few bytes
	}
}
