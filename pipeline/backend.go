package pipeline

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/verify"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/libvirt"
	"github.com/belljar/belljar/vm/qemu"
)

// The backends, by the names that --backend takes.
const (
	BackendQEMU    = "qemu"    // processes of Belljar's own, on this host
	BackendLibvirt = "libvirt" // domains of a libvirtd, on this host or another
)

// Backends lists the names, the default first.
func Backends() []string { return []string{BackendQEMU, BackendLibvirt} }

// backend makes machines, and says which emulator it makes them with.
type backend interface {
	vm.Backend
	// Version is that of the QEMU that would run machines of arch, on the host where it would: 7.2.22.
	Version(ctx context.Context, arch string) (string, error)
}

// newBackend is the one place that chooses what runs the machines. It connects to nothing yet.
func newBackend(cfg Config) (backend, error) {
	switch cfg.Backend {
	case "", BackendQEMU:
		for _, f := range []struct{ flag, value string }{{"--connect", cfg.Connect}, {"--pool", cfg.Pool}} {
			if f.value != "" {
				return nil, fault.New(fault.Usage, "", "%s is for libvirt, but the backend is %s", f.flag, BackendQEMU).
					WithRemedy("add --backend %s, or leave %s out", BackendLibvirt, f.flag)
			}
		}
		return &qemu.Backend{}, nil
	case BackendLibvirt:
		if err := libvirt.CheckURI(cfg.Connect); err != nil {
			return nil, err
		}
		return &libvirt.Backend{URI: cfg.Connect, Pool: cfg.Pool, Runs: filepath.Join(cfg.Dir, "runs")}, nil
	}
	return nil, fault.New(fault.Usage, "", "no backend %q: want %s", cfg.Backend, strings.Join(Backends(), " or ")).
		WithRemedy("mend --backend, BELLJAR_BACKEND in the environment, or 'backend:' in the config file")
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
			h.note("", "swept from libvirt's host: "+line)
		}
	}
	return h.runs.Create(ctx, what)
}

// unnamed is a text without the libvirt host's address, which a record does not tell.
func (h *house) unnamed(text string) string {
	if h.Connect == "" {
		return text
	}
	return strings.ReplaceAll(text, h.Connect, "URI")
}

// recorded is what the record tells of the backend: no address, no user, no path.
func (h *house) recorded(ctx context.Context) (verify.Backend, error) {
	host, ok, err := h.elsewhere(ctx)
	if !ok || err != nil {
		return verify.Backend{Name: BackendQEMU}, err
	}
	return verify.Backend{
		Name: host.Daemon, Version: host.Version, Transport: host.Transport, Arch: host.Arch, CPUs: host.CPUs,
	}, nil
}
