package integration

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/belljar/belljar/verify"
	"github.com/belljar/belljar/vm/libvirt/libvirttest"
)

// libvirtFlags are those that have a command's machines run by a libvirtd.
func libvirtFlags(uri string) []string {
	return []string{"--backend", "libvirt", "--connect", uri, "--pool", libvirttest.Pool}
}

// nothingLeft says that libvirt's host has no machine and no volume any more.
func nothingLeft(t *testing.T, s *libvirttest.Server) {
	t.Helper()
	eventually(t, patience, "end of libvirt's machines", func() bool { return len(s.QEMUs(t, "")) == 0 })
	if left := s.Files(t); len(left) > 0 {
		t.Errorf("left in the pool: %q", left)
	}
}

// ranBy reads what a record says of the backend.
func ranBy(t *testing.T, record string) verify.Backend {
	t.Helper()
	r, err := verify.Read(record)
	must(t, err)
	return r.Predicate.RunEvidence.Backend
}

// toyScript makes something that depends on what a guest may see of its machine, and on the inputs' bytes.
const toyScript = `      make --version | head -1
      (nproc; grep -m1 'model name' /proc/cpuinfo; date -u +%F; cat /proc/cmdline | tr ' ' '\n' | grep -v verity
      cd $SOURCES/seabios && find . -type f -print0 | sort -z | xargs -0 sha256sum) >$OUT/rom.bin
      sed 3q $OUT/rom.bin`

// Through a libvirtd, over TCP and so without a file in common, the same comes out as from QEMU itself.
func TestLibvirt(t *testing.T) {
	needMachines(t)
	s := libvirttest.Start(t)
	b := onShared(t)
	spec := b.spec("by-either", toySpec("by-either", toyScript))
	build := func(flags ...string) (r built) {
		b.succeed(append([]string{"build", spec, "--json", "--no-cache"}, flags...)...).result(t, &r)
		return r
	}
	direct := build()
	if by := ranBy(t, direct.Record); by != (verify.Backend{Name: "qemu"}) {
		t.Errorf("direct: the record says %+v", by)
	}
	through := build(libvirtFlags(s.TCP)...)
	by := ranBy(t, through.Record)
	if by.Name != "libvirt" || by.Version == "" || by.Transport != "tcp" || by.CPUs == 0 {
		t.Errorf("through libvirt: the record says %+v", by)
	}
	if a, b := direct.Artifacts[0], through.Artifacts[0]; a.SHA256 != b.SHA256 {
		t.Errorf("direct %s, through libvirt %s", a.SHA256, b.SHA256)
	}
	record, err := os.ReadFile(through.Record)
	must(t, err)
	for _, secret := range []string{"127.0.0.1", s.Dir} {
		if strings.Contains(string(record), secret) {
			t.Errorf("the record names libvirt's host: %q", secret)
		}
	}
	nothingLeft(t, s)
}

// A ROM boots, and fails to boot, in libvirt's machines as in QEMU's own.
func TestLibvirtSmoke(t *testing.T) {
	needMachines(t)
	s := libvirttest.Start(t)
	good := rom(t)
	for _, c := range []struct {
		name string
		data []byte
		code int
		says []string
	}{
		{"good", good, 0, []string{"pass rom.bin, i440fx", "pass rom.bin, q35"}},
		{"damaged", append([]byte{}, good[:len(good)/2]...), 7, []string{"nothing at all came on the serial console"}},
	} {
		b := onShared(t)
		path := filepath.Join(b.cwd, "rom.bin")
		must(t, os.WriteFile(path, c.data, 0o644))
		o := b.exit(c.code, append([]string{"smoke", "seabios", path, "--accel", "tcg", "--timeout", "2s"}, libvirtFlags(s.URI)...)...)
		contains(t, c.name, o.stdout+o.stderr, c.says...)
	}
	nothingLeft(t, s)
}

// A belljar that is killed leaves no machine on libvirt's host, and its volumes are swept by the next command that uses
// that host: here 'doctor', which then has nothing to complain of there.
func TestLibvirtKilled(t *testing.T) {
	needMachines(t)
	s := libvirttest.Start(t)
	b := onShared(t)
	spec := b.spec("cut-short", toySpec("cut-short", "      echo in the stage; sleep 3600"))
	flags := libvirtFlags(s.URI)
	p := b.start(nil, append([]string{"build", spec, "--json"}, flags...)...)
	run := p.run()
	p.awaitText("in the stage")
	if len(s.QEMUs(t, "")) != 1 || len(s.Files(t)) == 0 {
		t.Fatalf("machines %v, volumes %q: want one with its disks", s.QEMUs(t, ""), s.Files(t))
	}
	p.signal(syscall.SIGKILL)
	p.waitFor(patience)
	eventually(t, patience, "end of libvirt's machine", func() bool { return len(s.QEMUs(t, "")) == 0 })

	o := b.run(append([]string{"doctor"}, flags...)...) // this host may have no mirror: not what is asked here
	contains(t, "doctor", o.stdout, "libvirt", "pool", "qemu x86_64", "qemu i686")
	for _, line := range strings.Split(o.stdout, "\n") {
		for _, name := range []string{"libvirt", "pool", "qemu"} {
			if strings.HasPrefix(line, "no") && strings.Contains(line, name) {
				t.Errorf("doctor: %s", line)
			}
		}
	}
	nothingLeft(t, s)
	contains(t, "runs", b.succeed("runs").stdout, run.ID)
	if got, err := readRun(run.path); err != nil || got.State != "dead" {
		t.Errorf("the run is %+v, %v, want it dead", got, err)
	}
}

// A whole SeaBIOS through libvirt is the SeaBIOS that QEMU's own guests build.
func TestSlowLibvirtSeaBIOS(t *testing.T) {
	needMachines(t)
	if os.Getenv("BELLJAR_SLOW") != "1" {
		t.Skip("builds SeaBIOS in two guests; asked for by BELLJAR_SLOW=1")
	}
	s := libvirttest.Start(t)
	for _, guest := range []string{guest64, guest32} {
		t.Run(guest, func(t *testing.T) {
			b := onShared(t)
			direct := buildSeaBIOS(t, b, guest)
			through := buildSeaBIOS(t, b, guest, append([]string{"--no-cache"}, libvirtFlags(s.TCP)...)...)
			if by := ranBy(t, through.Record); by.Name != "libvirt" {
				t.Fatalf("the record says %+v", by)
			}
			t.Logf("direct %s, through libvirt %s", direct.Artifacts[0].SHA256, through.Artifacts[0].SHA256)
			if direct.Artifacts[0].SHA256 != through.Artifacts[0].SHA256 {
				t.Errorf("direct %s, through libvirt %s", direct.Artifacts[0].SHA256, through.Artifacts[0].SHA256)
			}
			for _, v := range through.Verdicts {
				if !v.Pass {
					t.Errorf("handed over in spite of %+v", v)
				}
			}
		})
	}
	nothingLeft(t, s)
}
