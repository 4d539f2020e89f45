package libvirt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/libvirt/libvirttest"
	"github.com/belljar/belljar/vm/vmtest"
)

// hostFault wants a host's fault with a word in it and a word in its remedy.
func hostFault(t *testing.T, err error, word, remedy string) {
	t.Helper()
	e, ok := errors.AsType[*fault.Error](err)
	if !ok || e.Kind != fault.Host || !strings.Contains(e.Error(), word) || !strings.Contains(e.Remedy, remedy) {
		t.Errorf("%v (%s), want a host fault with %q and the remedy %q", err, fault.KindOf(err), word, remedy)
		if ok {
			t.Logf("its remedy: %s", e.Remedy)
		}
	}
}

// until polls for what another process does.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

func TestUnreachable(t *testing.T) {
	m := romMachine(t, t.TempDir(), "pc-q35-6.2", "x", vmtest.Hang)
	for uri, remedy := range map[string]string{
		"qemu:///system?socket=/nonexistent/libvirt-sock":  "apt-get install libvirt",
		"qemu:///session?socket=/nonexistent/libvirt-sock": "virsh -c qemu:///session",
		"qemu+tcp://127.0.0.1:1/system":                    "listen_tcp",
	} {
		b := &Backend{URI: uri}
		hostFault(t, b.Preflight(t.Context(), m), uri, remedy)
		if _, err := b.Start(t.Context(), m, t.TempDir()); err == nil {
			t.Errorf("%s: started", uri)
		}
	}
}

// Somebody listens who does not speak libvirt's protocol, or does not speak at all.
func TestSilentListener(t *testing.T) {
	m := romMachine(t, t.TempDir(), "pc-q35-6.2", "x", vmtest.Hang)
	path := filepath.Join(t.TempDir(), "sock")
	l := listen(t, path)
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := (&Backend{URI: "qemu:///system?socket=" + path}).Preflight(ctx, m)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("preflight: %v, want the context's end", err)
	}
}

func TestMissing(t *testing.T) {
	needVM(t)
	s := libvirttest.Start(t)
	good := romMachine(t, t.TempDir(), "pc-q35-6.2", "x", vmtest.Hang)
	b := &Backend{URI: s.URI, Pool: libvirttest.Pool}
	if err := b.Preflight(t.Context(), good); err != nil {
		t.Errorf("what can run: %v", err)
	}
	host, err := b.Host(t.Context())
	if err != nil || host.Daemon != "libvirt" || host.CPUs < 1 || host.Memory < 1<<28 || host.UUID == "" || host.Arch == "" || host.Free <= 0 {
		t.Errorf("host: %+v, %v", host, err)
	}
	if v, err := b.Version(t.Context(), vm.X86_64); err != nil || strings.Count(v, ".") != 2 {
		t.Errorf("version: %q, %v", v, err)
	}

	hostFault(t, (&Backend{URI: s.URI, Pool: "nosuch"}).Preflight(t.Context(), good), "no such pool", "pool-create-as nosuch")
	for _, c := range []struct {
		name, word, remedy string
		spoil              func(*vm.Machine)
	}{
		{"a machine type", "pc-q35-99.0", "capabilities", func(m *vm.Machine) { m.Type = "pc-q35-99.0" }},
		{"a CPU model", "NoSuch-v1", "domcapabilities", func(m *vm.Machine) { m.CPU = "NoSuch-v1" }},
		{"a version of a CPU model", "Nehalem-v2", "-v1 alone", func(m *vm.Machine) { m.CPU = "Nehalem-v2" }},
		{"a file", "disk x: open /nonexistent", "", func(m *vm.Machine) {
			m.Disks = []vm.Disk{{Serial: "x", Path: "/nonexistent", Bus: vm.BusVirtio}}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := good
			c.spoil(&m)
			hostFault(t, b.Preflight(t.Context(), m), c.word, c.remedy)
			if _, err := b.Start(t.Context(), m, t.TempDir()); err == nil {
				t.Error("it started all the same")
			}
		})
	}
	t.Run("a ROM that QEMU refuses", func(t *testing.T) {
		m := good
		m.Boot.ROM = filepath.Join(t.TempDir(), "rom")
		if err := os.WriteFile(m.Boot.ROM, []byte("not a multiple of 64 KiB"), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := b.Start(t.Context(), m, t.TempDir())
		hostFault(t, err, "could not load PC BIOS", "")
	})
	if left := s.Files(t); len(left) > 0 {
		t.Errorf("left in the pool: %v", left)
	}
}

// boot starts a machine that hangs.
func boot(t *testing.T, b *Backend, dir string) *guest {
	t.Helper()
	g, err := b.Start(t.Context(), romMachine(t, t.TempDir(), "pc-q35-6.2", "x", vmtest.Hang), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g.(*guest)
}

func TestConnectionBreaks(t *testing.T) {
	needVM(t)
	s := libvirttest.Start(t)
	g := boot(t, &Backend{URI: s.URI, Pool: libvirttest.Pool}, t.TempDir())
	g.link.conn.Close()
	hostFault(t, g.Wait(), "the connection to libvirtd broke", "libvirtd")
	until(t, "libvirtd ends the machine", func() bool { return len(s.QEMUs(t, "")) == 0 })
	g.Close()
	if left := s.Files(t); len(left) > 0 {
		t.Errorf("left in the pool: %v", left)
	}
}

func TestLibvirtdKilled(t *testing.T) {
	needVM(t)
	s := libvirttest.Start(t)
	g := boot(t, &Backend{URI: s.URI, Pool: libvirttest.Pool}, t.TempDir())
	start := time.Now()
	s.Kill(t)
	hostFault(t, g.Wait(), "the connection to libvirtd broke", "whether libvirtd still runs")
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("took %s", took)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
}

// helperVariable makes the test program start a machine and wait to be killed: 'URI RUNS RUN'.
const helperVariable = "LIBVIRT_TEST_HOLD"

func hold(order string) {
	var uri, runs, dir string
	_, err := fmt.Sscan(order, &uri, &runs, &dir)
	if err == nil {
		rom := filepath.Join(dir, "test.rom")
		_ = os.WriteFile(rom, vmtest.ROM("x", vmtest.Hang), 0o644)
		_, err = (&Backend{URI: uri, Pool: libvirttest.Pool, Runs: runs}).Start(context.Background(), romPC(rom, "pc-q35-6.2"), dir)
	}
	fmt.Println("started", err)
	select {}
}

// A Belljar that is killed leaves no domain; its volumes are swept, and no other's.
func TestParentKilled(t *testing.T) {
	needVM(t)
	s := libvirttest.Start(t)
	root, other := t.TempDir(), t.TempDir()
	runs, err := vm.OpenRuns(root)
	if err != nil {
		t.Fatal(err)
	}
	living, err := runs.Create(t.Context(), "living")
	if err != nil {
		t.Fatal(err)
	}
	defer living.Finish(vm.Passed, nil)
	machine, err := living.Dir("machine")
	if err != nil {
		t.Fatal(err)
	}
	b := &Backend{URI: s.URI, Pool: libvirttest.Pool, Runs: root}
	mine := boot(t, b, machine)
	foreign := boot(t, &Backend{URI: s.URI, Pool: libvirttest.Pool, Runs: other}, filepath.Join(mkdir(t, other, "dead-run"), "."))

	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), helperVariable+"="+s.URI+" "+root+" "+mkdir(t, root, "dead-run"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 200)
	n, _ := out.Read(buf)
	if said := string(buf[:n]); said != "started <nil>\n" {
		t.Errorf("the helper said %q", said)
	}
	if n := len(s.QEMUs(t, "")); n != 3 {
		t.Errorf("%d machines run, want 3", n)
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	until(t, "libvirtd ends the machine and forgets it", func() bool {
		domains, _, err := mine.link.ConnectListAllDomains(1, libvirt.ConnectListDomainsActive)
		return err == nil && len(domains) == 2 && len(s.QEMUs(t, "")) == 2
	})
	if n := len(s.Files(t)); n != 3 {
		t.Errorf("%d volumes, want one of each machine", n)
	}

	swept, err := b.Sweep(t.Context())
	if err != nil || len(swept) != 1 || !strings.Contains(swept[0], "volume "+b.prefix()+"dead-run.") {
		t.Errorf("swept %q, %v, want the dead run's volume", swept, err)
	}
	if mine.IsGone() || foreign.IsGone() || len(s.Files(t)) != 2 {
		t.Errorf("a living run, or another's, was swept too: %v", s.Files(t))
	}

	// A domain is left behind when libvirtd was killed too: made here without its leash.
	d, err := mine.link.DomainCreateXML(strings.ReplaceAll(mine.xml, mine.domain.Name, b.prefix()+"dead-run.1"), libvirt.DomainStartPaused)
	if err == nil {
		t.Fatalf("a domain without its volumes was created: %v", d)
	}
	text := strings.Replace(mine.xml, "<name>"+mine.domain.Name, "<name>"+b.prefix()+"dead-run.1", 1)
	if _, err := mine.link.DomainCreateXML(text, libvirt.DomainStartPaused); err != nil {
		t.Fatal(err)
	}
	swept, err = b.Sweep(t.Context())
	if err != nil || len(swept) != 1 || swept[0] != "domain "+b.prefix()+"dead-run.1" {
		t.Errorf("swept %q, %v, want the dead run's domain", swept, err)
	}
	if n := len(s.QEMUs(t, "")); n != 2 {
		t.Errorf("%d machines run, want 2", n)
	}
}

func mkdir(t *testing.T, parent, name string) string {
	t.Helper()
	path := filepath.Join(parent, name)
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}
