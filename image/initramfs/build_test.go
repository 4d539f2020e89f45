package initramfs

import (
	"bytes"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func config() Config {
	return Config{
		Init:    Bytes("", 0, []byte("\x7fELF init")),
		Busybox: Bytes("", 0, []byte("#!busybox")),
		Modules: []File{Bytes("/x/virtio.ko", 0, []byte("v")), Bytes("a.ko", 0, []byte("a"))},
		Clock:   time.Unix(1000, 0),
	}
}

func TestBuild(t *testing.T) {
	var one, two bytes.Buffer
	for _, b := range []*bytes.Buffer{&one, &two} {
		if err := Build(b, config()); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("the same config gave other bytes")
	}
	items, err := readAll(&one)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]item{}
	last := ""
	for _, it := range items {
		if it.Name <= last {
			t.Errorf("%s comes after %s", it.Name, last)
		}
		if it.MTime != 1000 {
			t.Errorf("%s has mtime %d", it.Name, it.MTime)
		}
		last = it.Name
		got[it.Name] = it
	}
	if disks, last := got["modules/disks"], got["modules/scratch"]; disks.Data != "" || last.Data != "virtio.ko\na.ko\n" {
		t.Errorf("modules/disks is %q and modules/scratch is %q", disks.Data, last.Data)
	}
	if it := got["init"]; it.Mode != TypeFile|0o755 || it.Data != "\x7fELF init" {
		t.Errorf("init has mode %o and is %q", it.Mode, it.Data)
	}
	if it := got["bin/sh"]; it.Mode != TypeLink|0o777 || it.Data != "busybox" {
		t.Errorf("bin/sh has mode %o and leads to %q", it.Mode, it.Data)
	}
	if it := got["pid1"]; strings.Contains(it.Data, "@CIPHERS@") {
		t.Error("pid1 has no ciphers filled in")
	}
}

// The modules come in lists, by when they are needed. The agent is there for those who ask for it.
func TestModuleListsAndAgent(t *testing.T) {
	c := config()
	c.Agent = Bytes("", 0, []byte("agent"))
	c.Modules = nil
	for _, name := range []string{"erofs.ko", "dm-mod.ko", "dm-verity.ko", "virtio.ko", "virtio_pci.ko", "virtio_console.ko", "jbd2.ko", "ext4.ko"} {
		c.Modules = append(c.Modules, Bytes(name, 0, []byte("m")))
	}
	var b bytes.Buffer
	if err := Build(&b, c); err != nil {
		t.Fatal(err)
	}
	items, err := readAll(&b)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]item{}
	for _, it := range items {
		got[it.Name] = it
	}
	for name, want := range map[string]string{
		"modules/disks": "virtio.ko\nvirtio_pci.ko\n", "modules/root": "erofs.ko\ndm-mod.ko major=253\ndm-verity.ko\n",
		"modules/ports": "virtio_console.ko\n", "modules/scratch": "jbd2.ko\next4.ko\n",
		"agent": "agent",
	} {
		if got[name].Data != want {
			t.Errorf("%s is %q, want %q", name, got[name].Data, want)
		}
	}
	if got["agent"].Mode != TypeFile|0o755 {
		t.Errorf("the agent has mode %o", got["agent"].Mode)
	}
}

func TestRunFiles(t *testing.T) {
	var b bytes.Buffer
	if err := Build(&b, config()); err != nil {
		t.Fatal(err)
	}
	first := b.Len()
	if err := RunFiles(&b, []File{Bytes("key", 0o600, []byte("secret"))}); err != nil {
		t.Fatal(err)
	}
	items, err := readAll(bytes.NewReader(b.Bytes()[first:]))
	if err != nil {
		t.Fatal(err)
	}
	if len(items) != 2 || items[1].Name != "run-files/key" || items[1].Mode != TypeFile|0o600 ||
		items[1].Data != "secret" {
		t.Errorf("got %+v", items)
	}
	if err := RunFiles(io.Discard, []File{Bytes("a/b", 0, nil)}); err == nil {
		t.Error("a folder in a run file's name was taken")
	}
}

func TestBuildRefuses(t *testing.T) {
	gone := errors.New("gone")
	cases := []struct {
		name string
		c    Config
		want string
	}{
		{"two modules of one name", Config{
			Init: config().Init, Busybox: config().Busybox, Modules: []File{Bytes("a/x.ko", 0, nil), Bytes("b/x.ko", 0, nil)},
		}, "modules/x.ko is there twice"},
		{"unreadable busybox", Config{
			Init:    config().Init,
			Busybox: File{Size: 1, Open: func() (io.ReadCloser, error) { return nil, gone }},
		}, "bin/busybox: gone"},
		{"wrong size", Config{
			Init: config().Init,
			Busybox: File{Size: 1, Open: func() (io.ReadCloser, error) {
				return io.NopCloser(strings.NewReader("ab")), nil
			}},
		}, "more data"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := Build(io.Discard, c.c)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want …%s…", err, c.want)
			}
		})
	}
}

// A typo in the script is found here and not in a guest that says nothing.
func TestScriptParses(t *testing.T) {
	cmd := exec.Command("sh", "-n")
	cmd.Stdin = strings.NewReader(pid1Script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("pid1: %v\n%s", err, out)
	}
	if strings.Contains(Cmdline, "\n") || !strings.HasPrefix(Cmdline, "console=ttyS0 ") {
		t.Errorf("command line %q", Cmdline)
	}
}

// What boots by itself has drivers after the modules, and a guest of Belljar's has no list of any.
func TestBuildForItself(t *testing.T) {
	c := config()
	c.Drivers = []File{Bytes("ahci.ko", 0, []byte("x")), Bytes("nvme.ko", 0, []byte("y"))}
	got := map[string]item{}
	var b bytes.Buffer
	if err := Build(&b, c); err != nil {
		t.Fatal(err)
	}
	items, err := readAll(&b)
	if err != nil {
		t.Fatal(err)
	}
	for _, it := range items {
		got[it.Name] = it
	}
	if it := got["modules/drivers"]; it.Data != "ahci.ko\nnvme.ko\n" {
		t.Errorf("modules/drivers is %q", it.Data)
	}
	if disks, last := got["modules/disks"], got["modules/scratch"]; disks.Data != "" || last.Data != "virtio.ko\na.ko\n" {
		t.Errorf("modules/disks is %q and modules/scratch is %q", disks.Data, last.Data)
	}
	b.Reset()
	if err := Build(&b, config()); err != nil {
		t.Fatal(err)
	}
	if items, err = readAll(&b); err != nil {
		t.Fatal(err)
	}
	for _, it := range items {
		if it.Name == "modules/drivers" {
			t.Errorf("%s is there and was not asked for", it.Name)
		}
	}
}

func TestSelfBoot(t *testing.T) {
	if got := SelfBoot("root", "ab12"); got != "belljar.console belljar.root=PARTLABEL=root belljar.verity=ab12" {
		t.Errorf("got %q", got)
	}
	if got := SelfBoot("jar", ""); got != "belljar.console belljar.root=PARTLABEL=jar" {
		t.Errorf("without a root hash: %q", got)
	}
}
