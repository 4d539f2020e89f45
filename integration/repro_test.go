package integration

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/store"
)

// smallGuest are the packages of the least Debian that boots as a guest: the essential ones, busybox-static, iproute2,
// openssh-server, passwd, and what they depend on. They are a part of what the shipped lock pins.
const smallGuest = `adduser base-files base-passwd bash bsdutils busybox-static coreutils dash debconf debianutils
diffutils dpkg findutils gcc-12-base grep gzip hostname init-system-helpers iproute2 libacl1 libattr1 libaudit-common
libaudit1 libblkid1 libbpf1 libbsd0 libbz2-1.0 libc-bin libc6 libcap-ng0 libcap2 libcap2-bin libcbor0.8 libcom-err2
libcrypt1 libdb5.3 libdebconfclient0 libedit2 libelf1 libfido2-1 libgcc-s1 libgcrypt20 libgmp10 libgpg-error0
libgssapi-krb5-2 libk5crypto3 libkeyutils1 libkrb5-3 libkrb5support0 liblz4-1 liblzma5 libmd0 libmnl0 libmount1
libncursesw6 libnsl2 libpam-modules libpam-modules-bin libpam-runtime libpam0g libpcre2-8-0 libproc2-0 libselinux1
libsemanage-common libsemanage2 libsepol2 libsmartcols1 libssl3 libsystemd0 libtinfo6 libtirpc-common libtirpc3 libudev1
libuuid1 libwrap0 libxtables12 libzstd1 login mawk ncurses-base ncurses-bin openssh-client openssh-server
openssh-sftp-server passwd perl-base procps runit-helper sed sensible-utils sysvinit-utils tar ucf usr-is-merged
util-linux util-linux-extra zlib1g`

// otherUser is nobody on any machine.
const otherUser = 54321

// reproGuest is a guest whose image is made in several ways.
type reproGuest struct {
	shipped  string // the guest that it is made from
	packages string // those of its lock; empty: all
}

// writeSpec writes a spec with such a guest of so many CPUs, and its lock, into a folder. Nothing else differs between
// two of them; the number of CPUs is not in the lock.
func (r reproGuest) writeSpec(t *testing.T, dir string, cpus int) (path string, locked *specs.LockedGuest) {
	t.Helper()
	guest, err := os.ReadFile(filepath.Join(sources, "specs", "shipped", "guests", r.shipped+".yaml"))
	must(t, err)
	for field, value := range map[string]string{"name": "repro", "cpus": fmt.Sprint(cpus), "description": "for a test"} {
		line := regexp.MustCompile(`(?m)^` + field + `: .*$`)
		if !line.Match(guest) {
			t.Fatalf("guest %s has no field %s", r.shipped, field)
		}
		guest = line.ReplaceAll(guest, []byte(field+": "+value))
	}
	if r.packages != "" {
		line := regexp.MustCompile(`(?m)^packages: .*$`)
		guest = line.ReplaceAll(guest, []byte("packages: [busybox-static, iproute2, openssh-server, passwd]"))
	}
	path = filepath.Join(dir, "repro.yaml")
	must(t, os.WriteFile(filepath.Join(dir, "guest.yaml"), guest, 0o644))
	must(t, os.WriteFile(path, []byte(`name: repro
guests: [./guest.yaml]
sources: []
stages:
  - {name: none, script: "true", outputs: [none]}
artifacts:
  - {name: none, stage: none, path: none}
smoke: []
`), 0o644))
	loaded, err := specs.Load(path)
	must(t, err)
	shipped, err := specs.Load("seabios")
	must(t, err)
	lock, err := specs.LoadLock(shipped, "")
	must(t, err)
	locked = lock.Guests[r.shipped]
	if r.packages != "" {
		want := strings.Fields(r.packages)
		locked.Packages = slices.DeleteFunc(locked.Packages, func(p specs.Package) bool {
			return !p.Kernel && !slices.Contains(want, p.Name)
		})
		if got := len(locked.Packages) - 1; got != len(want) {
			t.Fatalf("the shipped lock has %d of the small guest's %d packages", got, len(want))
		}
	}
	lock.Spec, lock.Sources = specs.Stamp(loaded), nil
	lock.Guests = map[string]*specs.LockedGuest{"repro": locked}
	must(t, lock.WriteFile(loaded.LockPath()))
	return path, locked
}

// fill puts the packages into a new store, in the order of the list.
func fill(t *testing.T, dir string, packages []specs.Package) {
	t.Helper()
	from, err := store.Open(filepath.Join(sharedDir, "store"))
	must(t, err)
	to, err := store.Open(filepath.Join(dir, "store"))
	must(t, err)
	for _, p := range packages {
		must(t, from.Stream(t.Context(), store.Digest(p.SHA256), func(r io.Reader) error {
			_, _, err := to.Put(t.Context(), r, store.Digest(p.SHA256), p.Size)
			return err
		}))
	}
}

// laterProgram builds a belljar into dir whose clock is 400 days ahead: the time of day, not the clock that measures
// durations.
func laterProgram(t *testing.T, dir string) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	must(t, err)
	file := filepath.Join(strings.TrimSpace(string(out)), "src", "time", "time.go")
	text, err := os.ReadFile(file)
	must(t, err)
	const now = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	if bytes.Count(text, []byte(now)) != 1 {
		t.Fatalf("%s has changed: it has no %q", file, now)
	}
	text = bytes.Replace(text, []byte(now), []byte(now+"\tsec += 400 * 24 * 60 * 60\n"), 1)
	later := filepath.Join(dir, "time.go")
	must(t, os.WriteFile(later, text, 0o644))
	must(t, buildProgram(dir, map[string]string{file: later}))
	return filepath.Join(dir, "belljar")
}

// elsewhere is a belljar for which everything is different that must not matter: user, umask, time zone, locale, home,
// temporary folder, working folder, date, the host's number of CPUs, and where its own folder lies.
type elsewhere struct {
	t       *testing.T
	dir     string
	program string
}

func newElsewhere(t *testing.T) *elsewhere {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "belljar-elsewhere-")
	must(t, err)
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	must(t, os.Chmod(dir, 0o755)) // no t.TempDir: another user cannot get into one
	for _, name := range []string{"temp", "program"} {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	return &elsewhere{t, dir, laterProgram(t, filepath.Join(dir, "program"))}
}

// run calls the program with --json, and returns its outcome once it went well.
func (e *elsewhere) run(args ...string) *outcome {
	e.t.Helper()
	args = append([]string{"-c", `umask 077; exec "$@"`, "sh", e.program, "--dir", filepath.Join(e.dir, "belljar")}, args...)
	cmd := exec.Command("sh", args...)
	cmd.Dir = e.dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + e.dir, "TMPDIR=" + filepath.Join(e.dir, "temp"), "USER=somebody",
		"TZ=Pacific/Kiritimati", "LC_ALL=tr_TR.UTF-8", "LANG=tr_TR.UTF-8", "GOMAXPROCS=1", "SOURCE_DATE_EPOCH=1",
	}
	if os.Geteuid() == 0 {
		must(e.t, filepath.WalkDir(e.dir, func(path string, _ os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(path, otherUser, otherUser)
		}))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: otherUser, Gid: otherUser}}
	} else {
		e.t.Log("only root can become another user: this run goes without that")
	}
	b := &belljar{t: e.t, dir: filepath.Join(e.dir, "belljar"), cwd: e.dir}
	o := b.startCommand(cmd).wait()
	if o.code != 0 {
		e.t.Fatalf("%v: exit code %d\n%s%s", cmd.Args, o.code, o.tail(), o.stderr)
	}
	return o
}

// imageDigests are what 'image build --json' says of an image.
type imageDigests struct {
	Digest   string
	RootHash string `json:"root_hash"`
}

// reproduce makes the guest's first layer in four ways and its image in two, and wants the same bytes.
func reproduce(t *testing.T, r reproGuest) {
	onShared(t).succeed("fetch", "seabios", "--guest", r.shipped)

	here := onEmpty(t)
	spec, locked := r.writeSpec(t, here.cwd, 2)
	fill(t, here.dir, locked.Packages)
	layer := func(name string) string {
		path := filepath.Join(here.cwd, name)
		here.succeed("image", "layer", spec, "--out", path)
		defer os.Remove(path)
		return digestOfFile(t, path)
	}
	want := layer("first")
	if got := layer("again"); got != want { // from packages that the store keeps ready now
		t.Errorf("the layer made twice: %s and %s", want, got)
	}

	there := newElsewhere(t)
	otherSpec, locked := r.writeSpec(t, there.dir, 1)
	slices.Reverse(locked.Packages)
	fill(t, filepath.Join(there.dir, "belljar"), locked.Packages)
	file := filepath.Join(there.dir, "layer")
	there.run("image", "layer", otherSpec, "--out", file)
	if got := digestOfFile(t, file); got != want {
		t.Errorf("the layer made elsewhere is %s, want %s", got, want)
	}
	must(t, os.Remove(file))
	must(t, os.RemoveAll(filepath.Join(there.dir, "belljar", "store", "refs", "ready")))

	var one, two imageDigests
	here.succeed("image", "build", spec, "--accel", "tcg", "--json").result(t, &one)
	there.run("image", "build", otherSpec, "--accel", "tcg", "--json").result(t, &two)
	if one != two || one.Digest == "" || one.RootHash == "" {
		t.Errorf("the image made here, with two CPUs: %+v; elsewhere, with one: %+v", one, two)
		explainDifference(t, here, one.Digest, filepath.Join(there.dir, "belljar", "store", "objects", two.Digest[:2], two.Digest))
	}
}

// explainDifference prints how two images differ, for whoever has to mend it.
func explainDifference(t *testing.T, b *belljar, digest, path string) {
	t.Helper()
	o := b.run("image", "diff", digest, path, "--mtime")
	t.Logf("%s\n%s", o.stdout, o.stderr)
}

func digestOfFile(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	must(t, err)
	return hex.EncodeToString(h.Sum(nil))
}

// An image is the same bytes whoever makes it, wherever and whenever: here of the least guest that boots.
func TestImageIsReproducible(t *testing.T) {
	needMachines(t)
	t.Parallel()
	reproduce(t, reproGuest{guest64, smallGuest})
}

// The same of the guests that are shipped.
func TestSlowShippedImagesAreReproducible(t *testing.T) {
	needMachines(t)
	if os.Getenv("BELLJAR_SLOW") != "1" {
		t.Skip("makes two images of each shipped guest; asked for by BELLJAR_SLOW=1")
	}
	for _, guest := range []string{guest64, guest32} {
		t.Run(guest, func(t *testing.T) { reproduce(t, reproGuest{shipped: guest}) })
	}
}
