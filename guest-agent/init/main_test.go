package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// lay makes files, with what is in them, and the folders above them. A name that ends in '/' is a folder's.
func lay(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, name)
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(files[name]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestParseCmdline(t *testing.T) {
	for _, c := range []struct {
		name, line string
		want       options
	}{
		{"nothing", "console=ttyS0 quiet\n", options{disks: []string{"root"}, label: "root", mode: "ssh"}},
		{"a guest", "quiet belljar.disks=root,inputs belljar.verity=ab12\n", options{
			disks: []string{"root", "inputs"}, label: "root", verity: "ab12", mode: "ssh",
		}},
		{"a disk that boots by itself", "belljar.console belljar.root=PARTLABEL=jar belljar.verity=ab12", options{
			label: "jar", search: true, verity: "ab12", mode: "console",
		}},
		{"a root that is no label", "belljar.root=/dev/sda1", options{disks: []string{"root"}, label: "root", mode: "ssh"}},
		{"somebody else's words", "root=x notbelljar.verity=1 belljar.console=", options{
			disks: []string{"root"}, label: "root", mode: "console",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, parseCmdline(c.line), cmp.AllowUnexported(options{})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// block is /sys/block and /dev of a guest: its disks are not in the order of their serials.
func block() map[string]string {
	return map[string]string{
		"sys/vda/serial": "outputs", // the kernel writes no line end
		"sys/vdb/serial": "root\n", "sys/vdb/vdb1/uevent": "DEVNAME=vdb1\nPARTNAME=root\n",
		"sys/vdb/vdb2/uevent": "DEVNAME=vdb2\nPARTNAME=root-verity\n", "sys/vdb/queue/uevent": "PARTNAME=root\n",
		"sys/vdc/serial": "inputs", "sys/loop0/": "", "sys/sda/sda1/uevent": "PARTNAME=jar\n",
		"dev/vdb1": "", "dev/vdb2": "", "dev/sda1": "",
	}
}

func TestDisks(t *testing.T) {
	ssh := options{disks: []string{"root", "inputs"}, label: "root"}
	with := func(o options, change func(*options)) options {
		change(&o)
		return o
	}
	for _, c := range []struct {
		name string
		o    options
		gone string // from the guest
		want layout
		fail string // a part of the error
	}{
		{"a guest", ssh, "", layout{root: "vdb", part: "vdb1", inputs: "vdc", outputs: "vda"}, ""},
		{"with a hash tree", with(ssh, func(o *options) { o.verity = "ab" }), "",
			layout{root: "vdb", part: "vdb1", hashes: "vdb2", inputs: "vdc", outputs: "vda"}, ""},
		{"without its hash tree", with(ssh, func(o *options) { o.verity = "ab" }), "sys/vdb/vdb2", layout{},
			"image: the disk vdb has no partition 'root-verity'"},
		{"by itself", options{label: "jar", search: true}, "", layout{root: "sda", part: "sda1"}, ""},
		{"by itself, not there", options{label: "pot", search: true}, "", layout{},
			"no disk has a partition 'pot'; there is: loop0 sda vda vdb vdc"},
		{"a disk too few", with(ssh, func(o *options) { o.disks = []string{"scratch"} }), "", layout{},
			"no disk with serial 'scratch'; there is: inputs outputs root"},
		{"no partition", with(ssh, func(o *options) { o.label = "boot" }), "", layout{}, "the disk vdb has no partition 'boot'"},
		{"no node yet", ssh, "dev/vdb1", layout{}, "the disk vdb has no partition 'root'"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := lay(t, block())
			if c.gone != "" {
				if err := os.RemoveAll(filepath.Join(dir, c.gone)); err != nil {
					t.Fatal(err)
				}
			}
			f := finder{sys: dir + "/sys", dev: dir + "/dev", left: 2 * pause}
			got, err := f.disks(c.o)
			if c.fail != "" {
				if err == nil || !strings.Contains(err.Error(), c.fail) {
					t.Fatalf("got %v, want …%s…", err, c.fail)
				}
				return
			}
			if err != nil || got != c.want {
				t.Errorf("got %+v, %v\nwant %+v", got, err, c.want)
			}
		})
	}
}

// What is no module does not load; the first of these is named.
func TestLoad(t *testing.T) {
	dir := lay(t, map[string]string{
		"none": "", "root": "erofs.ko\n", "erofs.ko": "no module", "par": "erofs.ko major=1 x=y\n", "ports": "gone.ko\nvirtio_console.ko\n",
	})
	for _, c := range []struct{ list, want string }{
		{"none", ""},
		{"root", "load erofs.ko: "},
		{"par", "load erofs.ko major=1 x=y: "},
		{"ports", "load gone.ko: no such file"},
		{"disks", "open " + dir + "/disks: no such file"},
	} {
		if err := load(dir, c.list); (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q…", c.list, err, c.want)
		}
	}
}

func TestLoadDisks(t *testing.T) {
	// A driver that does not load is not needed here.
	if err := loadDisks(lay(t, map[string]string{"disks": "", "drivers": "ahci.ko\n"})); err != nil {
		t.Errorf("a driver: %v", err)
	}
	for _, files := range []map[string]string{nil, {"disks": "gone.ko\n"}} {
		if err := loadDisks(lay(t, files)); err == nil {
			t.Errorf("from %q: no error", files)
		}
	}
}

func TestCopyAndEmpty(t *testing.T) {
	dir := lay(t, map[string]string{"from/bin/busybox": "#!", "from/key": "secret", "to/": ""})
	if err := os.Symlink("busybox", dir+"/from/bin/sh"); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir+"/from/key", 0o600); err != nil {
		t.Fatal(err)
	}
	if err := copyTree(dir+"/from", dir+"/to"); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(dir + "/to/bin/sh"); err != nil || string(b) != "#!" {
		t.Errorf("bin/sh: %q, %v", b, err)
	}
	if info, err := os.Stat(dir + "/to/key"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key: %v, %v", info, err)
	}
	if err := copyTree(dir+"/from", dir+"/to"); err == nil {
		t.Error("a file that is there was written over")
	}
	if err := empty(dir); err != nil {
		t.Fatal(err)
	}
	if left := names(dir); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
}

func TestAddAccounts(t *testing.T) {
	const shipped = "root:x:0:0:root:/root:/bin/bash\nmybuild:x:5:5::/:/bin/sh\n"
	for _, c := range []struct {
		name   string
		files  map[string]string
		passwd string
		group  string
	}{
		{"nothing configured", map[string]string{"etc/passwd": shipped, "etc/group": "root:x:0:\n"},
			shipped + accounts[0].line + "\n" + accounts[1].line + "\n", "root:x:0:\n" + accounts[2].line + "\n"},
		{"no file at all", map[string]string{"etc/": ""}, accounts[0].line + "\n" + accounts[1].line + "\n", accounts[2].line + "\n"},
		{"all there", map[string]string{"etc/passwd": "build:x:1:1::/:\nsshd:x:2:2::/:\n", "etc/group": "build:x:1:\n"},
			"build:x:1:1::/:\nsshd:x:2:2::/:\n", "build:x:1:\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := lay(t, c.files)
			if err := addAccounts(root); err != nil {
				t.Fatal(err)
			}
			for name, want := range map[string]string{"/etc/passwd": c.passwd, "/etc/group": c.group} {
				if b, err := os.ReadFile(root + name); err != nil || string(b) != want {
					t.Errorf("%s is %q, %v; want %q", name, b, err, want)
				}
			}
		})
	}
	if err := addAccounts(lay(t, nil)); err == nil {
		t.Error("accounts in a root without /etc")
	}
}
