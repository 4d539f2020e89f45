package libvirt

import (
	"context"
	"encoding/xml"
	"fmt"
	"slices"

	"github.com/digitalocean/go-libvirt"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
)

// oldest is the first libvirt that can set a guest's clock to a date (<clock offset='absolute'>, 8.4.0), in libvirt's
// way of writing versions: major*1000000 + minor*1000 + release.
const oldest = 8_004_000

// Version is the version of the QEMU that would run machines, e.g. 7.2.22, as libvirt tells it.
func (b *Backend) Version(ctx context.Context, _ string) (string, error) {
	l, err := b.link(ctx)
	if err != nil {
		return "", err
	}
	defer l.hangUp()
	defer context.AfterFunc(ctx, l.hangUp)()
	qemu, err := l.ConnectGetVersion()
	if err != nil {
		return "", orCause(ctx, l.trouble("ask libvirt", err))
	}
	return version(qemu), nil
}

// Host asks libvirtd about itself, its host and the pool.
func (b *Backend) Host(ctx context.Context) (vm.Host, error) {
	l, err := b.link(ctx)
	if err != nil {
		return vm.Host{}, err
	}
	defer l.hangUp()
	defer context.AfterFunc(ctx, l.hangUp)()
	h, err := b.ask(l)
	if err != nil {
		return vm.Host{}, orCause(ctx, err)
	}
	return h, nil
}

func (b *Backend) ask(l *link) (vm.Host, error) {
	op := "ask libvirt"
	lib, err := l.ConnectGetLibVersion()
	if err != nil {
		return vm.Host{}, l.trouble(op, err)
	}
	if lib < oldest {
		return vm.Host{}, fault.New(fault.Host, op, "%s is version %s: Belljar needs %s, which can set a guest's clock",
			l.target, version(lib), version(oldest)).WithRemedy("update libvirt there, or use --backend qemu")
	}
	text, err := l.Capabilities()
	if err != nil {
		return vm.Host{}, l.trouble(op, err)
	}
	var about struct { // docs/formatcaps.html of libvirt
		UUID string `xml:"host>uuid"`
		Arch string `xml:"host>cpu>arch"`
	}
	if err := xml.Unmarshal(text, &about); err != nil {
		return vm.Host{}, fault.New(fault.Host, op, "capabilities: %w", err)
	}
	_, memory, cpus, _, _, _, _, _, err := l.NodeGetInfo()
	if err != nil {
		return vm.Host{}, l.trouble(op, err)
	}
	p, err := l.openPool(b.pool())
	if err != nil {
		return vm.Host{}, err
	}
	_, _, _, free, err := l.StoragePoolGetInfo(p.pool)
	if err != nil {
		return vm.Host{}, l.trouble(op, err)
	}
	return vm.Host{
		Daemon: "libvirt", Version: version(lib), Transport: l.target.transport, UUID: about.UUID, Arch: about.Arch,
		CPUs: int(cpus), Memory: int64(memory) << 10, Pool: b.pool(), Free: int64(free),
	}, nil
}

func version(n uint64) string { return fmt.Sprintf("%d.%d.%d", n/1_000_000, n/1000%1000, n%1000) }

func (b *Backend) link(ctx context.Context) (*link, error) {
	t, err := b.target()
	if err != nil {
		return nil, err
	}
	return t.connect(ctx)
}

// Preflight says what this host or libvirt's lacks to run m.
func (b *Backend) Preflight(ctx context.Context, m vm.Machine) error {
	if err := m.Validate(); err != nil {
		return fault.New(fault.Usage, "preflight "+m.Name, "%w", err)
	}
	if err := offered(m); err != nil {
		return fault.New(fault.Usage, "preflight "+m.Name, "%w", err).WithRemedy("use --backend qemu")
	}
	l, err := b.link(ctx)
	if err != nil {
		return err
	}
	defer l.hangUp()
	defer context.AfterFunc(ctx, l.hangUp)()
	if _, err := b.ask(l); err != nil {
		return orCause(ctx, err)
	}
	if err := l.offers(m); err != nil {
		return orCause(ctx, err)
	}
	return vm.Readable(m)
}

// offers checks machine type, accelerator and CPU model: docs/formatdomaincaps.html of libvirt.
func (l *link) offers(m vm.Machine) error {
	op := "preflight " + m.Name
	kind := "qemu"
	if m.Accel == vm.KVM {
		kind = "kvm"
	}
	text, err := l.ConnectGetDomainCapabilities(nil, libvirt.OptString{m.Arch}, libvirt.OptString{m.Type},
		libvirt.OptString{kind}, 0)
	if err != nil {
		return l.trouble(op, err).WithRemedy("see what it offers: virsh -c '%s' capabilities", l.target.uri)
	}
	var offer struct {
		Models []struct {
			Name   string `xml:",chardata"`
			Usable string `xml:"usable,attr"`
		} `xml:"cpu>mode>model"`
	}
	if err := xml.Unmarshal([]byte(text), &offer); err != nil {
		return fault.New(fault.Host, op, "domain capabilities: %w", err)
	}
	var names []string
	for _, c := range offer.Models {
		names = append(names, c.Name)
	}
	if !slices.Contains(names, modelName(m.CPU)) {
		return fault.New(fault.Host, op, "%s does not offer the CPU model %s", l.target, m.CPU).
			WithRemedy("see what it offers: virsh -c '%s' domcapabilities --virttype %s --machine %s; of versions it "+
				"knows -v1 alone", l.target.uri, kind, m.Type)
	}
	return nil
}
