package pipeline

import (
	"context"

	"github.com/belljar/belljar/verify"
	"github.com/belljar/belljar/vm"
)

// backend makes machines, and says which emulator it makes them with.
type backend interface {
	vm.Backend
	// Version is that of the QEMU that would run machines of arch, on the host where it would: 7.2.22.
	Version(ctx context.Context, arch string) (string, error)
}

// elsewhere is the daemon that runs the machines, if there is one.
func (h *house) elsewhere(ctx context.Context) (vm.Host, bool, error) {
	t, ok := h.backend.(vm.HostTeller)
	if !ok {
		return vm.Host{}, false, nil
	}
	host, err := t.Host(ctx)
	return host, true, err
}

// newRun makes a run that will start machines. What dead runs left on the machines' host is swept first: a host that is
// not this one is looked at only when it is used.
func (h *house) newRun(ctx context.Context, what string) (*vm.Run, error) {
	if s, ok := h.backend.(vm.Sweeper); ok {
		swept, err := s.Sweep(ctx)
		if err != nil {
			return nil, err
		}
		for _, line := range swept {
			h.note("", "swept from the host of the machines: "+line)
		}
	}
	return h.runs.Create(ctx, what)
}

// recorded is what the record tells of the backend: no address, no user, no path.
func (h *house) recorded(ctx context.Context) (verify.Backend, error) {
	host, ok, err := h.elsewhere(ctx)
	if !ok || err != nil {
		return verify.Backend{Name: "qemu"}, err
	}
	return verify.Backend{
		Name: host.Daemon, Version: host.Version, Transport: host.Transport, Arch: host.Arch, CPUs: host.CPUs,
	}, nil
}
