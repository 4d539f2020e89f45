package pipeline

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/guest-agent/wire"
	"github.com/belljar/belljar/image"
	"github.com/belljar/belljar/image/initramfs"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/store"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/qemu"
)

// testDeb is a package of the tests' own. A file's content is 'text'; '-> x' makes a symbolic link of it, '=> x' a hard
// link.
type testDeb struct {
	name, fields string
	control      map[string]string
	files        []string // PATH=CONTENT
}

// write makes a .deb (deb(5)) with uncompressed members.
func (d testDeb) write(t *testing.T) []byte {
	t.Helper()
	control := "Package: " + d.name + "\nVersion: 1.0\nArchitecture: amd64\nMaintainer: test <test@example.org>\n" +
		d.fields + "Description: test\n"
	members := []string{"control=" + control}
	for _, name := range slices.Sorted(maps.Keys(d.control)) {
		members = append(members, name+"="+d.control[name])
	}
	var b bytes.Buffer
	b.WriteString("!<arch>\n")
	for _, m := range []struct {
		name string
		data []byte
	}{
		{"debian-binary", []byte("2.0\n")},
		{"control.tar", tarOf(t, members)}, {"data.tar", tarOf(t, d.files)},
	} {
		fmt.Fprintf(&b, "%-16s%-12d%-6d%-6d%-8o%-10d`\n", m.name, 0, 0, 0, 0o644, len(m.data))
		b.Write(m.data)
		if len(m.data)%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

func tarOf(t *testing.T, files []string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		name, text, _ := strings.Cut(f, "=")
		h := &tar.Header{
			Typeflag: tar.TypeReg, Name: "./" + name, Mode: 0o755, Size: int64(len(text)),
			ModTime: time.Unix(1700000000, 0), Format: tar.FormatGNU,
		}
		if to, ok := strings.CutPrefix(text, "> "); ok { // of '=> '
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, "./"+to, 0
		} else if to, ok := strings.CutPrefix(text, "-> "); ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, to, 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// everything has one of each thing that a package can ask of dpkg and that the image must get right.
var everything = []testDeb{
	{
		name: "bj-one",
		control: map[string]string{
			"conffiles": "/etc/bj/one.conf\n",
			"triggers":  "interest /usr/share/bj\ninterest-noawait bj-hook\ninterest-await bj-await\n",
			"postinst": `#!/bin/sh
set -e
mkdir -p /var/lib/bj
case $1 in
configure)
	update-alternatives --install /usr/bin/bj bj /usr/bin/own 10
	dpkg-statoverride --update --add root mail 2755 /usr/bin/own
	chmod 4711 /usr/lib/bj/suid ;;
triggered) for t in $2; do echo "$t" >>/var/lib/bj/triggered; done ;;
esac
`,
		},
		files: []string{
			"usr/bin/shared=one\n", "bin/old-style=old\n", "usr/bin/own=own\n", "etc/bj/one.conf=conf\n",
			"usr/lib/bj/a=linked\n", "usr/lib/bj/b=> usr/lib/bj/a", "usr/lib/bj/suid=s\n",
		},
	},
	{
		name: "bj-two", fields: "Depends: adduser, libcap2-bin, bj-one\n",
		control: map[string]string{
			"preinst": `#!/bin/sh
set -e
dpkg-divert --package bj-two --add --rename --divert /usr/bin/shared.one /usr/bin/shared
`,
			"postinst": `#!/bin/sh
set -e
update-alternatives --install /usr/bin/bj bj /usr/bin/new-style 20
addgroup --system --quiet bjgroup
chown root:bjgroup /usr/lib/bj/two
chmod 2750 /usr/lib/bj/two
ln -f /usr/lib/bj/two /usr/lib/bj/two-again
setcap cap_net_raw+ep /usr/lib/bj/cap
mkfifo /usr/lib/bj/fifo
dpkg-trigger --no-await /usr/share/bj
`,
		},
		files: []string{
			"usr/bin/shared=two\n", "usr/bin/new-style=new\n", "usr/lib/bj/two=2\n", "usr/lib/bj/cap=c\n", "usr/share/bj/file=f\n",
		},
	},
	{
		name: "bj-three", fields: "Multi-Arch: same\nPre-Depends: bj-zero\n",
		control: map[string]string{
			"conffiles": "remove-on-upgrade /etc/bj/gone.conf\n",
			"triggers":  "activate-noawait bj-hook\nactivate-await bj-await\n",
			"preinst": `#!/bin/sh
set -e
[ "$1" = install ] && [ $# = 1 ]
[ -e /var/lib/bj-zero ] # what it pre-depends on came first
[ "$0" = /var/lib/dpkg/tmp.ci/preinst ] && grep -qx 'Package: bj-three' /var/lib/dpkg/tmp.ci/control
[ "$DPKG_MAINTSCRIPT_PACKAGE $DPKG_MAINTSCRIPT_NAME $DPKG_MAINTSCRIPT_ARCH" = "bj-three preinst amd64" ]
dpkg-statoverride --add root mail 640 /usr/lib/bj/three
`,
			"postinst": "#!/bin/sh\n[ \"$1 $2\" = 'configure ' ]\n",
		},
		files: []string{"usr/lib/bj/three=3\n"},
	},
	{name: "bj-zero", control: map[string]string{"preinst": "#!/bin/sh\n: >/var/lib/bj-zero\n"}},
}

// lookAtAll says what became of it, in a guest that booted from the finished image.
const lookAtAll = `
say() { echo "seen: $*"; }
say audit $(dpkg --audit)
say verify $(dpkg --verify)
say not installed $(dpkg-query -W -f '${Status} ${Package}\n' | grep -v '^install ok installed ')
say shared $(cat /usr/bin/shared) $(cat /usr/bin/shared.one) $(dpkg-divert --listpackage /usr/bin/shared)
say files $(cat /usr/bin/old-style /bin/own /etc/bj/one.conf)
say alternative $(readlink -f /usr/bin/bj)
say links $(stat -c %h /usr/lib/bj/a) $(stat -c %h /usr/lib/bj/two-again)
say modes $(stat -c '%a %U:%G' /usr/bin/own /usr/lib/bj/two /usr/lib/bj/suid /usr/lib/bj/three /usr/bin/passwd)
say fifo $(stat -c %F /usr/lib/bj/fifo)
say capability $(getcap /usr/lib/bj/cap)
say overrides $(dpkg-statoverride --list | sort)
say triggered $(sort -u /var/lib/bj/triggered)
say conffiles $(ls /etc/bj) $(dpkg-query -W -f '${Conffiles}\n' bj-three)
say shell $(readlink /bin/sh) $(dpkg-divert --listpackage /bin/sh)
say info $(cd /var/lib/dpkg/info && ls bj-*.list)
say left $(ls -d /var/lib/dpkg/belljar /var/lib/dpkg/tmp.ci /usr/sbin/policy-rc.d /etc/ssh/ssh_host_* 2>/dev/null)
`

const lookedAt = `seen: audit
seen: verify
seen: not installed
seen: shared two one bj-two
seen: files old own conf
seen: alternative /usr/bin/new-style
seen: links 2 2
seen: modes 2755 root:mail 2750 root:bjgroup 4711 root:root 640 root:mail 4755 root:root
seen: fifo fifo
seen: capability /usr/lib/bj/cap cap_net_raw=ep
seen: overrides root mail 2755 /usr/bin/own root mail 640 /usr/lib/bj/three
seen: triggered /usr/share/bj bj-await bj-hook
seen: conffiles one.conf /etc/bj/gone.conf newconffile remove-on-upgrade
seen: shell dash dash
seen: info bj-one.list bj-three:amd64.list bj-two.list bj-zero.list
seen: left
`

// smallGuest is a house on the tests' shared store, and a plan of the shipped 64-bit guest without its compilers but
// with more packages.
func smallGuest(t *testing.T, more ...testDeb) (*house, *plan, *vm.Run) {
	t.Helper()
	if testing.Short() {
		t.Skip("boots machines; left out by -short")
	}
	dir := os.Getenv("BELLJAR_TEST_DIR")
	if dir == "" {
		dir = filepath.Join("..", ".cache", "test")
	}
	h, err := open(Config{Dir: dir, Version: "test", Report: func(e Event) {
		if e.Text != "" {
			t.Log(e.Text)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	h.backend, h.once, h.pace = &qemu.Backend{}, true, vm.TCGPace
	p, err := makePlan(filepath.Join("..", "specs", "shipped", "roms", "seabios.yaml"), "", "debian-bookworm-x86_64")
	if err != nil {
		t.Fatal(err)
	}
	small := *p.locked
	small.Packages = slices.DeleteFunc(slices.Clone(small.Packages), func(p specs.Package) bool {
		return slices.ContainsFunc([]string{
			"acpica", "binutils", "cpp", "gcc", "libasan", "libatomic", "libbinutils", "libc-dev", "libc6-dev", "libcc1", "libctf",
			"libgcc-12", "libgomp", "libgprofng", "libisl", "libitm", "libjansson", "liblsan", "libmpc", "libmpfr", "libpython",
			"libquadmath", "libsqlite", "libtsan", "libubsan", "linux-libc", "make", "python",
		}, func(prefix string) bool { return strings.HasPrefix(p.Name, prefix) && p.Name != "gcc-12-base" })
	})
	for _, d := range more {
		data := d.write(t)
		digest, err := h.store.PutBytes(data)
		if err != nil {
			t.Fatal(err)
		}
		small.Packages = append(small.Packages, specs.Package{
			Name: d.name, Version: "1.0", Arch: "amd64", SHA256: string(digest), Size: int64(len(data)),
		})
	}
	p.locked = &small
	run, err := h.runs.Create(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = run.Finish(vm.Passed, nil) })
	return h, p, run
}

func (h *house) makeSmall(t *testing.T, p *plan, run *vm.Run) (builtImage, *bundle, error) {
	t.Helper()
	b, err := h.bundle(t.Context(), p.guest, p.locked)
	if err != nil {
		t.Fatal(err)
	}
	built, _, err := h.makeImage(t.Context(), p, b, imageIdentity(p.guest, p.locked, "test"), vm.TCG, run)
	return built, b, err
}

// Everything that dpkg does for packages comes through configuring, merging and the next boot.
func TestConfigureEverything(t *testing.T) {
	h, p, run := smallGuest(t, everything...)
	built, b, err := h.makeSmall(t, p, run)
	if err != nil {
		t.Fatal(err)
	}
	checkVerified(t, h, built.Root)
	dir, err := run.Dir("look")
	if err != nil {
		t.Fatal(err)
	}
	m := machine(p.guest, p.locked)
	m.Accel = vm.TCG
	m.Boot.Cmdline = initramfs.Verity(built.RootHash)
	m.Disks = []vm.Disk{{Serial: diskRoot, Path: h.store.Path(built.Root), Bus: vm.BusVirtio, ReadOnly: true}}
	g, err := h.boot(t.Context(), dir, m, b, PhaseStage, "look")
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	seen := ""
	st := wire.Stage{
		Name: "look", Script: lookAtAll, Root: true, WorkDir: "/build", OutDir: "/build/out",
		Env: map[string]string{"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}, Timeout: 3 * time.Minute,
	}
	_, err = g.Run(g.ctx, st, func(line string) {
		if strings.HasPrefix(line, "seen: ") {
			seen += strings.TrimRight(line, " ") + "\n"
		}
	})
	if err != nil {
		t.Fatal(g.explain(err))
	}
	if seen != lookedAt {
		t.Errorf("got\n%s\nwant\n%s", seen, lookedAt)
	}
}

// checkVerified holds the image's files against what its packages say of them.
func checkVerified(t *testing.T, h *house, root store.Digest) {
	t.Helper()
	f, err := os.Open(h.store.Path(root))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	m, err := image.Open(t.Context(), "root", f, info.Size(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	deviations, err := m.Verify(context.Background())
	if err != nil || len(deviations) > 0 {
		t.Errorf("the image deviates from its packages: %v, %v", deviations, err)
	}
}

// A script that says no ends the build at once, and is named.
func TestConfigureFails(t *testing.T) {
	h, p, run := smallGuest(t, testDeb{name: "bj-bad", control: map[string]string{
		"preinst": "#!/bin/sh\n# at work\necho cannot do that\nexit 7\n",
	}})
	_, _, err := h.makeSmall(t, p, run)
	wantFault(t, err, fault.Input, "configure the image", "preinst of bj-bad failed with 7")
}
