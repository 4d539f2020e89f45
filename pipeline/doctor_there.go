package pipeline

import (
	"cmp"
	"context"
	"fmt"
	"runtime"

	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/libvirt"
)

// What a guest's files take of libvirt's pool: the root, its inputs, and what a stage writes to its disks.
const (
	poolLeast = 2 << 30
	poolComfy = 8 << 30
)

// checkMachines looks at what machines need, where they would run: on this host, or where a daemon has them.
func (h *house) checkMachines(ctx context.Context, l *specs.Loaded) ([]Check, error) {
	there, daemon, err := h.elsewhere(ctx)
	if err != nil {
		return []Check{failed(BackendLibvirt, err)}, nil // nothing else can be asked
	}
	var all []Check
	if daemon {
		all = append(all, h.checkDaemon(there), checkPool(there))
	}
	for _, name := range l.GuestNames() {
		g, err := l.Guest(name)
		if err != nil {
			return nil, err
		}
		all = append(all, h.checkQEMU(ctx, g))
	}
	accel, err := h.checkAccel(ctx, l)
	if err != nil {
		return nil, err
	}
	confinement, err := h.checkConfinement(ctx, l)
	if err != nil {
		return nil, err
	}
	all = append(append(all, accel...), confinement...)
	if daemon {
		return append(all, checkCPUs(there.CPUs), checkMemoryThere(l, there)), nil
	}
	return append(all, checkCPUs(runtime.NumCPU()), h.checkMemory(l)), nil
}

func (h *house) checkDaemon(there vm.Host) Check {
	text := fmt.Sprintf("version %s on %s, at %s", there.Version, there.Arch, cmp.Or(h.Connect, libvirt.DefaultURI))
	return Check{Name: there.Daemon, State: CheckOK, Text: text}
}

func checkPool(there vm.Host) Check {
	c := Check{Name: "pool", State: CheckOK, Text: fmt.Sprintf("%s: %s free", there.Pool, size(there.Free))}
	switch {
	case there.Free < poolLeast:
		c.State, c.Remedy = CheckNo, "a guest's disks take "+size(poolLeast)+": make room there, or name another pool with --pool"
	case there.Free < poolComfy:
		c.State, c.Remedy = CheckWarn, "big stages take "+size(poolComfy)+": make room there, or name another pool with --pool"
	}
	return c
}

func checkMemoryThere(l *specs.Loaded, there vm.Host) Check {
	need := mostMemory(l)
	c := Check{Name: "memory", State: CheckOK, Text: fmt.Sprintf("%s in all, a guest takes %s", size(there.Memory), size(need))}
	if there.Memory < need+512<<20 {
		c.State, c.Remedy = CheckNo, "take a libvirt host with more memory, or give the guest spec less"
	}
	return c
}
