package pipeline

import (
	"context"
	"fmt"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/fetch"
	"github.com/belljar/belljar/image/debian"
	"github.com/belljar/belljar/provision"
	"github.com/belljar/belljar/specs"
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

// doctorSpec is the shipped spec whose guest stands for what builds ask of a host.
const doctorSpec = "roms/seabios"

// Doctor looks whether this host can do it. Each check that says no or warns has its remedy.
// The error is for a doctor that could not look at all; a host that cannot is told by its checks.
func Doctor(ctx context.Context, cfg Config) ([]Check, error) {
	h, err := open(cfg)
	if err != nil {
		return nil, err
	}
	loaded, err := specs.Load(doctorSpec)
	if err != nil {
		return nil, err
	}
	all, err := h.checkMachines(ctx, loaded)
	if err != nil {
		return nil, err
	}
	all = append(all, h.checkDisk(), h.checkStore(), checkKeyring(), checkAgents(), checkGit(), h.checkMirror(ctx, loaded))
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

// unlocked is a guest's machine without a lock: a lock copies these fields from the spec.
func unlocked(g *specs.Guest) vm.Machine {
	return machine(g, &specs.LockedGuest{Arch: g.Arch, Machine: g.Machine, CPU: g.CPU, Clock: g.Clock})
}

func checkCPUs(n int) Check {
	if n < 2 {
		text := "1: a guest with 2 will be slow"
		return Check{Name: "cpus", State: CheckWarn, Text: text, Remedy: "give the machine 2 or more"}
	}
	return Check{Name: "cpus", State: CheckOK, Text: fmt.Sprint(n)}
}

func (h *house) checkMemory(l *specs.Loaded) Check {
	total, available := memory()
	need := mostMemory(l)
	text := fmt.Sprintf("%s available of %s, a guest takes %s", size(available), size(total), size(need))
	if available < need+512<<20 {
		remedy := "end other programs, add memory, or give the guest spec less"
		return Check{Name: "memory", State: CheckNo, Text: text, Remedy: remedy}
	}
	return Check{Name: "memory", State: CheckOK, Text: text}
}

// mostMemory is what the biggest guest takes.
func mostMemory(l *specs.Loaded) (need int64) {
	for _, name := range l.GuestNames() {
		if g, err := l.Guest(name); err == nil {
			need = max(need, int64(g.Memory))
		}
	}
	return need
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
