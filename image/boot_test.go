package image

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belljar/belljar/image/initramfs"
)

// standIn takes sshd's place in the tiny guest: it looks at the machine from where a session would, and powers off.
const standIn = `#!/belljar/bin/busybox sh
exec >/dev/console 2>&1
B=/belljar/bin/busybox
until [ -e /belljar/ready ]; do $B sleep 0.1; done
echo "seen: key $($B cat /belljar/ssh_host_ed25519_key)"
echo "seen: input $($B cat /inputs/sources/hello/world.txt) $($B stat -c '%u:%g %a' /inputs/sources/hello/world.txt)"
echo "seen: readahead $(for at in / /inputs /build; do d=$($B grep " $at " /proc/mounts | $B cut -d' ' -f1); [ $at = / ] && d=/dev/dm-0; $B cat /sys/block/${d##*/}/queue/read_ahead_kb; done | $B tr '\n' ' ')"
echo "seen: scratch $($B stat -c '%u:%g' /build) $($B grep ' /build ' /proc/mounts | $B cut -d' ' -f3)"
$B dd if=/dev/urandom of=/build/file bs=64k count=64 2>/dev/null && $B sync &&
	echo "seen: wrote $($B stat -c %s /build/file)"
echo "seen: setuid $($B stat -c %a /usr/bin/su)"
echo "seen: lower $($B grep ' /belljar/lower ' /proc/mounts | $B cut -d' ' -f3,4 | $B cut -d, -f1)"
echo "seen: root on $($B grep ' /belljar/lower ' /proc/mounts | $B cut -d' ' -f1)"
echo "seen: host $($B hostname), links $($B ls /sys/class/net)"
` + lookAtTruth + `
$B rm /etc/doomed && echo changed >/etc/kept
echo "seen: upper $($B ls -l /belljar/overlay/upper/etc |
	$B awk '/doomed/ {print $1, $5 $6} /kept/ {print $1}' | $B tr '\n' ' ')"
echo out >/dev/$($B grep -l outputs /sys/block/vd*/serial | $B cut -d/ -f4)
$B sync
: >/belljar/poweroff
`

// TestBoot boots a stock kernel from disks that this package and initramfs made, and lets it say what it finds:
// nothing else shows that a real kernel mounts them.
func TestBoot(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine")
	}
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Fatalf("%v; install it (Debian: qemu-system-x86)", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }

	kernel := bootBundle(ctx, t, dir)
	rootHash := writeRoot(ctx, t, file("root"))
	inputs := createFile(t, file("inputs"))
	if err := WriteTree(ctx, inputs, []Tree{{Name: "hello", Parts: []Part{
		{File: "hello.tar", Open: opener(tarball(t, e("hello-1/"), e("hello-1/world.txt=greetings")))},
	}}}, TreeOptions{Clock: testClock, TempDir: dir}); err != nil {
		t.Fatal(err)
	}
	if err := Scratch(file("scratch"), 8<<30); err != nil {
		t.Fatal(err)
	}
	if err := createFile(t, file("outputs")).Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	truths := writeTruth(ctx, t, file("truth"))
	// The port must exist; nobody talks on it.
	l, err := net.Listen("unix", file("port"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	args := []string{
		"-accel", "tcg,thread=multi", "-machine", "pc-q35-6.2", "-cpu", "Nehalem-v1,enforce", "-smp", "2", "-m", "512",
		"-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot", "-nic", "none",
		"-kernel", kernel.Image, "-initrd", file("initrd"), "-append", initramfs.Cmdline + " " + initramfs.Verity(rootHash),
		"-device", "virtio-serial-pci", "-chardev", "socket,id=ssh,path=" + file("port"),
		"-device", "virtserialport,chardev=ssh,name=belljar.ssh",
	}
	// Not in the order in which the guest wants them.
	for _, d := range []string{"outputs", "scratch", "truth", "inputs", "root"} {
		ro := "off"
		if d == "root" || d == "inputs" || d == "truth" {
			ro = "on"
		}
		args = append(args, "-drive", "if=none,format=raw,id="+d+",file="+file(d)+",readonly="+ro,
			"-device", "virtio-blk-pci,drive="+d+",serial="+d)
	}
	cmd := exec.CommandContext(ctx, qemu, args...)
	console, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("qemu: %v", err)
	}
	rest := string(console)
	for _, want := range []string{
		"belljar: init kernel " + kernel.Release, "belljar: init root vd", "belljar: sshd on vport",
		"seen: key not a key", "seen: input greetings 1000:1000 644", "seen: readahead 128 1024 1024",
		"seen: scratch 1000:1000 ext4",
		"seen: wrote 4194304",
		"seen: setuid 4755", "seen: lower erofs ro", "seen: root on /dev/dm-0", "seen: host belljar, links lo",
		"seen: upper c--------- 0,0 -rw-r--r--", "belljar: powering off",
	} {
		_, after, ok := strings.Cut(rest, want)
		if !ok {
			t.Fatalf("the console lacks %q after what came before it:\n%s", want, console)
		}
		rest = after
	}
	checkTruth(t, string(console), truths)
	written := make([]byte, 4)
	if f, err := os.Open(file("outputs")); err != nil {
		t.Error(err)
	} else if _, err := f.Read(written); err != nil || string(written) != "out\n" {
		t.Errorf("the output disk begins %q (%v)", written, err)
	}
	if fsck, err := exec.LookPath("e2fsck"); err == nil {
		if out, err := exec.CommandContext(ctx, fsck, "-fn", file("scratch")).CombinedOutput(); err != nil {
			t.Errorf("e2fsck of the used scratch disk: %v\n%s", err, out)
		}
	}
}

// bootBundle makes the kernel bundle and the initramfs of one run.
func bootBundle(ctx context.Context, t *testing.T, dir string) *Kernel {
	t.Helper()
	kernel, config := kernelAndConfig(ctx, t, dir)
	config.Lean = true // as guests have them; of a disk that boots by itself the modules are whole
	initrd := createFile(t, filepath.Join(dir, "initrd"))
	if err := initramfs.Build(initrd, config); err != nil {
		t.Fatal(err)
	}
	if err := initramfs.RunFiles(initrd, []initramfs.File{
		initramfs.Bytes("ssh_host_ed25519_key", 0o600, []byte("not a key")),
	}); err != nil {
		t.Fatal(err)
	}
	return kernel
}

// kernelAndConfig makes the kernel bundle, and what an initramfs is made of from it.
func kernelAndConfig(ctx context.Context, t *testing.T, dir string) (*Kernel, initramfs.Config) {
	t.Helper()
	busyboxDeb, kernelDeb := testDebs(t)
	r, err := os.Open(kernelDeb)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	kernel, err := ExtractKernel(ctx, r, dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.Open(busyboxDeb)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	busybox := filepath.Join(dir, "busybox")
	if err := ExtractFile(b, "bin/busybox", busybox); err != nil {
		t.Fatal(err)
	}
	config := initramfs.Config{Init: firstProgram(ctx, t, dir), Busybox: onDisk(t, busybox), Clock: testClock}
	for _, m := range kernel.Modules {
		config.Modules = append(config.Modules, onDisk(t, m))
	}
	return kernel, config
}

// testDebs finds busybox-static and a kernel in the store that 'make test' has filled from the shipped lock: the very
// packages that guests boot with. The lock and the store are read as what they are on the disk, for this package
// does not know theirs.
func testDebs(t *testing.T) (busybox, kernel string) {
	t.Helper()
	data, err := os.ReadFile("../specs/shipped/roms/seabios.lock.json")
	if err != nil {
		t.Fatal(err)
	}
	var lock struct {
		Guests map[string]struct {
			Packages []struct {
				Name, SHA256 string
				Kernel       bool
			}
		}
	}
	if err := json.Unmarshal(data, &lock); err != nil {
		t.Fatal(err)
	}
	dir := os.Getenv("BELLJAR_TEST_DIR")
	if dir == "" {
		dir = "../.cache/test"
	}
	for _, p := range lock.Guests["debian-bookworm-x86_64"].Packages {
		path := filepath.Join(dir, "store", "objects", p.SHA256[:2], p.SHA256)
		switch {
		case p.Kernel:
			kernel = path
		case p.Name == "busybox-static":
			busybox = path
		default:
			continue
		}
		if _, err := os.Stat(path); err != nil {
			t.Fatalf("%s: %v; fill the store: make test-store", p.Name, err)
		}
	}
	return busybox, kernel
}

// firstProgram builds the initramfs's init.
func firstProgram(ctx context.Context, t *testing.T, dir string) initramfs.File {
	t.Helper()
	to := filepath.Join(dir, "init")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", to, "../guest-agent/init")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return onDisk(t, to)
}

// writeRoot makes a root disk without a single package in it, and returns its root hash.
func writeRoot(ctx context.Context, t *testing.T, name string) string {
	t.Helper()
	tr := newTree()
	for _, d := range []string{"belljar", "build", "inputs", "dev", "proc", "run", "sys", "tmp"} {
		if err := tr.mkdirMode(d, 0o755, testClock); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []struct {
		name string
		mode uint32
		text string
	}{
		{"etc/passwd", 0o644, "root:*:0:0::/root:/bin/sh\n"}, {"etc/group", 0o644, "root:*:0:\n"},
		{"etc/doomed", 0o644, "x"}, {"usr/bin/su", 0o4755, "x"}, {"usr/sbin/sshd", 0o755, standIn},
	} {
		if err := tr.text(f.name, f.mode, testClock, f.text); err != nil {
			t.Fatal(err)
		}
	}
	out := createFile(t, name)
	size, err := writeErofs(ctx, io.NewOffsetWriter(out, partStart), tr, testClock)
	if err != nil {
		t.Fatal(err)
	}
	rootHash, err := sealDisk(ctx, out, size, "x86_64")
	if err != nil {
		t.Fatal(err)
	}
	return rootHash
}

func createFile(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func onDisk(t *testing.T, name string) initramfs.File {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return initramfs.File{Name: name, Size: info.Size(), Open: func() (io.ReadCloser, error) { return os.Open(name) }}
}
