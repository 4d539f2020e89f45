package pipeline

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/fetch"
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
	all = append(all, kvm, checkCPUs(), h.checkMemory(loaded), h.checkDisk(), h.checkStore(), checkKeyring(),
		checkAgents(), checkGit(), h.checkMirror(ctx, loaded))
	return all, ctx.Err()
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
	m := unlocked(g)
	m.Accel = vm.TCG
	if err := h.backend.Preflight(ctx, m); err != nil {
		return failed(name, err)
	}
	version, err := h.backend.Version(ctx, g.Arch)
	if err != nil {
		return failed(name, err)
	}
	text := fmt.Sprintf("%s with machine %s and CPU %s", version, g.Machine, g.CPU)
	return Check{Name: name, State: CheckOK, Text: text}
}

// slow is what a host without KVM has to put up with.
const slow = ": TCG will be used, 10 to 20 times slower"

// checkKVM proves KVM: with the pinned kernel where the store has it, else with QEMU's own firmware.
func (h *house) checkKVM(ctx context.Context, l *specs.Loaded) (Check, error) {
	if reason, remedy := vm.KVMAccess(); reason != "" {
		return Check{Name: "kvm", State: CheckWarn, Text: reason + slow, Remedy: remedy}, nil
	}
	run, err := h.newRun(ctx, "doctor")
	if err != nil {
		return Check{}, err
	}
	defer func() { _ = h.runs.Remove(run.ID()) }()
	defer func() { _ = run.Finish(vm.Passed, nil) }()

	text, works := "", false
	if p := h.planWithKernel(l); p != nil {
		text, works, err = h.proveKernel(ctx, p, run)
	} else {
		text, works, err = h.proveFirmware(ctx, l, run)
	}
	switch {
	case err != nil:
		return failed("kvm", err), nil
	case !works:
		remedy := "where this is a virtual machine, ask for nested virtualisation; where it is not, look at " +
			"dmesg | grep kvm. Belljar works without"
		return Check{Name: "kvm", State: CheckWarn, Text: text, Remedy: remedy}, nil
	}
	return Check{Name: "kvm", State: CheckOK, Text: text}, nil
}

// planWithKernel is the spec's plan if the store has its kernel already, else nil.
func (h *house) planWithKernel(l *specs.Loaded) *plan {
	p, err := makePlan(l.Spec.Name, "", "")
	if err != nil {
		return nil
	}
	for _, lp := range p.locked.Packages {
		if lp.Kernel && h.store.Has(store.Digest(lp.SHA256)) {
			return p
		}
	}
	return nil
}

// proveKernel is the proof that a build would make, and is remembered for it.
func (h *house) proveKernel(ctx context.Context, p *plan, run *vm.Run) (text string, works bool, err error) {
	b, err := h.bundle(ctx, p.guest, p.locked)
	if err != nil {
		return "", false, err
	}
	quiet := *h
	quiet.Report = nil
	start := time.Now()
	d, err := quiet.decideAccel(ctx, vm.Auto, p, b, run)
	if err != nil {
		return "", false, err
	}
	if d.Accel == vm.KVM {
		took := d.Proof.Took.Round(time.Millisecond)
		return fmt.Sprintf("booted the pinned kernel %s in %s", b.Release, took), true, nil
	}
	if d.FromCache {
		return d.Reason, false, nil
	}
	took := time.Since(start).Round(100 * time.Millisecond)
	return fmt.Sprintf("%s (found out in %s)", d.Reason, took), false, nil
}

// proveFirmware finds gross breakage only: it is for a host whose store is still empty.
func (h *house) proveFirmware(ctx context.Context, l *specs.Loaded, run *vm.Run) (text string, works bool, err error) {
	dir, err := run.Dir("kvm-proof")
	if err != nil {
		return "", false, err
	}
	g, err := l.Guest("")
	if err != nil {
		return "", false, err
	}
	proof, err := vm.QuickProbe(ctx, h.backend, unlocked(g), dir)
	if err != nil {
		return "", false, err
	}
	if !proof.OK {
		return "it does not run QEMU's own firmware: " + proof.Reason + slow, false, nil
	}
	text = fmt.Sprintf("runs QEMU's own firmware in %s; the first build proves it with the pinned kernel",
		proof.Took.Round(time.Millisecond))
	return text, true, nil
}

// unlocked is a guest's machine without a lock: a lock copies these fields from the spec.
func unlocked(g *specs.Guest) vm.Machine {
	return machine(g, &specs.LockedGuest{Arch: g.Arch, Machine: g.Machine, CPU: g.CPU, Clock: g.Clock})
}

func checkCPUs() Check {
	if n := runtime.NumCPU(); n < 2 {
		text := "1: a guest with 2 will be slow"
		return Check{Name: "cpus", State: CheckWarn, Text: text, Remedy: "give the machine 2 or more"}
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
		remedy := "end other programs, add memory, or give the guest spec less"
		return Check{Name: "memory", State: CheckNo, Text: text, Remedy: remedy}
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
		c.State = CheckNo
		c.Remedy = "a build takes " + size(diskLeast) + ": free some, run belljar clean --store, or put --dir elsewhere"
	case free < diskComfy:
		c.State = CheckWarn
		c.Remedy = "two guests and a few builds take " + size(diskComfy) + ": belljar clean --all frees what runs left"
	}
	return c
}

func (h *house) checkStore() Check {
	u, err := h.store.Usage()
	if err != nil {
		return failed("store", err)
	}
	text := fmt.Sprintf("%d objects, %s on the disk, in %s", u.Objects, size(u.Disk), h.store.Dir())
	return Check{Name: "store", State: CheckOK, Text: text}
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
		text := "not here: specs with git: sources cannot be locked or fetched"
		return Check{Name: "git", State: CheckWarn, Text: text, Remedy: "apt-get install git"}
	}
	return Check{Name: "git", State: CheckOK, Text: path}
}

// checkMirror asks the first mirror that answers for the suite's InRelease, and verifies it.
func (h *house) checkMirror(ctx context.Context, l *specs.Loaded) Check {
	const name = "mirror"
	f, err := h.fetcher()
	if err != nil {
		return failed(name, err)
	}
	g, err := l.Guest("")
	if err != nil {
		return failed(name, err)
	}
	keys, err := debian.Keyring()
	if err != nil {
		return failed(name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, mirrorWait)
	defer cancel()
	var rel *debian.Release
	check := func(data []byte, _ bool) (err error) {
		rel, err = debian.VerifyRelease(g.Suite, data, keys)
		return err
	}
	_, from, err := f.GetChecked(ctx, fetch.State{Snapshot: g.Snapshot}, "dists/"+g.Suite+"/InRelease", maxRelease, check)
	if err != nil {
		c := failed(name, err)
		c.State = CheckWarn
		c.Remedy = "only lock and fetch need one: check the network and proxy, or name a mirror with --mirror or in " +
			"the config file"
		return c
	}
	text := fmt.Sprintf("%s: of %s, signature good", from, rel.Date.UTC().Format("2006-01-02"))
	return Check{Name: name, State: CheckOK, Text: text}
}
