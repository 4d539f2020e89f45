package pipeline

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/image/debian"
	"github.com/belljar/belljar/provision"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/store"
	"github.com/belljar/belljar/vm"
)

// The states of a Check.
const (
	CheckOK   = "ok"
	CheckWarn = "warn" // builds work, with a drawback
	CheckNo   = "no"   // builds do not work
)

// What a build of the shipped specs takes of the disk: packages 200 MB, images and their temporary files 2 GB a guest.
const (
	diskLeast  = 4 << 30
	diskComfy  = 10 << 30
	mirrorWait = 20 * time.Second
)

// Doctor looks whether this host can do it. Each check that says no or warns has its remedy.
// The error is for a doctor that could not look at all; a host that cannot is told by its checks.
func Doctor(ctx context.Context, cfg Config) ([]Check, error) {
	h, err := open(cfg)
	if err != nil {
		return nil, err
	}
	loaded, err := specs.Load(specs.Shipped()[0])
	if err != nil {
		return nil, err
	}
	var all []Check
	for _, name := range loaded.GuestNames() {
		g, err := loaded.Guest(name)
		if err != nil {
			return nil, err
		}
		all = append(all, h.checkQEMU(ctx, g))
	}
	kvm, err := h.checkKVM(ctx, loaded)
	if err != nil {
		return nil, err
	}
	all = append(all, kvm, checkCPUs(), h.checkMemory(loaded), h.checkDisk(), h.checkStore(), checkKeyring(), checkAgents(), checkGit())
	return append(all, h.checkMirror(ctx, loaded)...), ctx.Err()
}

func failed(name string, err error) Check {
	c := Check{Name: name, State: CheckNo, Text: err.Error()}
	for _, f := range fault.Chain(err) {
		if c.Remedy == "" {
			c.Remedy = f.Remedy
		}
	}
	return c
}

func (h *house) checkQEMU(ctx context.Context, g *specs.Guest) Check {
	name := "qemu " + g.Arch
	m := machine(g, &specs.LockedGuest{Arch: g.Arch, Machine: g.Machine, CPU: g.CPU, Clock: g.Clock})
	m.Accel = vm.TCG
	if err := h.backend.Preflight(ctx, m); err != nil {
		return failed(name, err)
	}
	version, err := h.backend.Version(ctx, g.Arch)
	if err != nil {
		return failed(name, err)
	}
	return Check{Name: name, State: CheckOK, Text: fmt.Sprintf("%s with machine %s and CPU %s", version, g.Machine, g.CPU)}
}

// checkKVM proves KVM: with the pinned kernel where the store has it, else with QEMU's own firmware.
func (h *house) checkKVM(ctx context.Context, l *specs.Loaded) (Check, error) {
	const name = "kvm"
	if reason, remedy := vm.KVMAccess(); reason != "" {
		return Check{Name: name, State: CheckWarn, Text: reason + ": TCG will be used, 10 to 20 times slower", Remedy: remedy}, nil
	}
	run, err := h.runs.Create(ctx, "doctor")
	if err != nil {
		return Check{}, err
	}
	defer func() { _ = h.runs.Remove(run.ID()) }()
	defer func() { _ = run.Finish(vm.Passed, nil) }()
	const remedy = "where this is a virtual machine, ask for nested virtualisation; where it is not, look at dmesg | grep kvm. Belljar works without"
	if p, err := makePlan(l.Spec.Name, "", ""); err == nil {
		if k, err := packageOf(p.locked, func(p specs.Package) bool { return p.Kernel }, "a kernel"); err == nil && h.store.Has(store.Digest(k.SHA256)) {
			b, err := h.bundle(ctx, p.guest, p.locked)
			if err != nil {
				return failed(name, err), nil
			}
			quiet := *h
			quiet.Report = nil
			start := time.Now()
			d, err := quiet.decideAccel(ctx, vm.Auto, p, b, run)
			if err != nil {
				return failed(name, err), nil
			}
			if d.Accel == vm.KVM {
				return Check{Name: name, State: CheckOK, Text: fmt.Sprintf("booted the pinned kernel %s in %s", b.Release, d.Proof.Took.Round(time.Millisecond))}, nil
			}
			text := d.Reason
			if !d.FromCache {
				text += fmt.Sprintf(" (found out in %s)", time.Since(start).Round(100*time.Millisecond))
			}
			return Check{Name: name, State: CheckWarn, Text: text, Remedy: remedy}, nil
		}
	}
	dir, err := run.Dir("kvm-proof")
	if err != nil {
		return Check{}, err
	}
	g, err := l.Guest("")
	if err != nil {
		return Check{}, err
	}
	m := machine(g, &specs.LockedGuest{Arch: g.Arch, Machine: g.Machine, CPU: g.CPU, Clock: g.Clock})
	proof, err := vm.QuickProbe(ctx, h.backend, m, dir)
	if err != nil {
		return failed(name, err), nil
	}
	if !proof.OK {
		return Check{Name: name, State: CheckWarn, Text: "it does not run QEMU's own firmware: " + proof.Reason + ": TCG will be used, 10 to 20 times slower", Remedy: remedy}, nil
	}
	return Check{Name: name, State: CheckOK, Text: fmt.Sprintf("runs QEMU's own firmware in %s; the first build proves it with the pinned kernel", proof.Took.Round(time.Millisecond))}, nil
}

func checkCPUs() Check {
	if n := runtime.NumCPU(); n < 2 {
		return Check{Name: "cpus", State: CheckWarn, Text: "1: a guest with 2 will be slow", Remedy: "give the machine 2 or more"}
	}
	return Check{Name: "cpus", State: CheckOK, Text: fmt.Sprint(runtime.NumCPU())}
}

func (h *house) checkMemory(l *specs.Loaded) Check {
	total, available := memory()
	need := int64(0)
	for _, name := range l.GuestNames() {
		if g, err := l.Guest(name); err == nil {
			need = max(need, int64(g.Memory))
		}
	}
	text := fmt.Sprintf("%s available of %s, a guest takes %s", size(available), size(total), size(need))
	if available < need+512<<20 {
		return Check{Name: "memory", State: CheckNo, Text: text, Remedy: "end other programs, add memory or swap, or give the guest spec less"}
	}
	return Check{Name: "memory", State: CheckOK, Text: text}
}

func (h *house) checkDisk() Check {
	var s unix.Statfs_t
	if err := unix.Statfs(h.Dir, &s); err != nil {
		return failed("disk", err)
	}
	free := int64(s.Bavail) * s.Bsize
	c := Check{Name: "disk", State: CheckOK, Text: fmt.Sprintf("%s free under %s", size(free), h.Dir)}
	switch {
	case free < diskLeast:
		c.State, c.Remedy = CheckNo, fmt.Sprintf("a build takes %s: free some, run belljar clean --store, or put --dir elsewhere", size(diskLeast))
	case free < diskComfy:
		c.State, c.Remedy = CheckWarn, "two guests and a few builds take "+size(diskComfy)+": belljar clean --all frees what runs left"
	}
	return c
}

func (h *house) checkStore() Check {
	u, err := h.store.Usage()
	if err != nil {
		return failed("store", err)
	}
	return Check{Name: "store", State: CheckOK, Text: fmt.Sprintf("%d objects, %s on the disk, in %s", u.Objects, size(u.Disk), filepath.Join(h.Dir, "store"))}
}

func checkKeyring() Check {
	keys, err := debian.Keyring()
	if err != nil {
		return failed("keyring", err)
	}
	return Check{Name: "keyring", State: CheckOK, Text: keys.Source}
}

func checkAgents() Check {
	for _, arch := range []string{"x86_64", "i686"} {
		if _, _, err := provision.Agent(arch); err != nil {
			return failed("agents", err)
		}
	}
	return Check{Name: "agents", State: CheckOK, Text: "x86_64 and i686 are in this binary"}
}

func checkGit() Check {
	path, err := exec.LookPath("git")
	if err != nil {
		return Check{Name: "git", State: CheckWarn, Text: "not here: specs with git: sources cannot be locked or fetched", Remedy: "apt-get install git"}
	}
	return Check{Name: "git", State: CheckOK, Text: path}
}

// checkMirror asks the first mirror that answers for the suite's InRelease, and verifies it.
func (h *house) checkMirror(ctx context.Context, l *specs.Loaded) []Check {
	const name = "mirror"
	const remedy = "only lock and fetch need one: check the network and proxy, or name a mirror with --mirror or in " + "the config file"
	f, err := h.fetcher()
	if err != nil {
		return []Check{failed(name, err)}
	}
	g, err := l.Guest("")
	if err != nil {
		return []Check{failed(name, err)}
	}
	keys, err := debian.Keyring()
	if err != nil {
		return []Check{failed(name, err)}
	}
	ctx, cancel := context.WithTimeout(ctx, mirrorWait)
	defer cancel()
	var rel *debian.Release
	_, from, err := f.GetChecked(ctx, "dists/"+g.Suite+"/InRelease", maxRelease, func(data []byte) error {
		rel, err = debian.VerifyRelease(g.Suite, data, keys)
		return err
	})
	if err != nil {
		c := failed(name, err)
		c.State, c.Remedy = CheckWarn, remedy
		return []Check{c}
	}
	return []Check{{Name: name, State: CheckOK, Text: fmt.Sprintf("%s: of %s, signature good", from, rel.Date.UTC().Format("2006-01-02"))}}
}
