package libvirt

import (
	"encoding/xml"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/belljar/belljar/vm"
)

// Place is where a machine's parts lie on libvirt's host, and what it is called there.
type Place struct {
	Name   string   // of the domain
	Kernel string   // path of the volume; so are the next ones
	Initrd string   //
	ROM    string   //
	Vars   string   //
	Disks  []string // in the order of the machine's disks
}

// DomainXML describes m as a libvirt domain (docs/formatdomain.html of libvirt) that lies at p. It is a pure function:
// the same machine and place, the same text. It says the same of the machine as vm/qemu's Args, down to the PCI slots;
// docs/libvirt.md lists what differs.
func DomainXML(m vm.Machine, p Place) (string, error) {
	if err := m.Validate(); err != nil {
		return "", err
	}
	if err := offered(m); err != nil {
		return "", err
	}
	if len(p.Disks) != len(m.Disks) {
		return "", fmt.Errorf("domain: %d places for %d disks", len(p.Disks), len(m.Disks))
	}
	d := domain{
		Type: "qemu", Namespace: qemuNamespace, Name: p.Name, Title: m.Name,
		Memory: quantity{"MiB", m.Memory >> 20}, CPUs: m.CPUs,
		OS:       osXML{Type: osType{m.Arch, m.Type, "hvm"}, Kernel: p.Kernel, Initrd: p.Initrd, Cmdline: m.Boot.Cmdline},
		Features: features{},
		CPU: cpu{
			Mode: "custom", Match: "exact", Check: "none", Model: model{"forbid", modelName(m.CPU)},
			Topology: topology{1, 1, m.CPUs, 1},
		},
		Clock:      clock{"absolute", m.Clock.Unix(), timer{"rtc", "guest"}},
		OnPoweroff: "destroy", OnReboot: "restart", OnCrash: "destroy",
	}
	if m.Accel == vm.KVM {
		d.Type = "kvm"
	}
	switch {
	case p.Vars != "":
		d.OS.Loader, d.OS.NVRAM = &loader{"yes", "pflash", p.ROM}, p.Vars
		d.Power = &power{}
		d.Power.ToMemory.Enabled = "no" // see noSleep of vm/qemu
	case p.ROM != "":
		d.OS.Loader = &loader{"yes", "rom", p.ROM}
	}
	if m.OnReset == vm.ExitOnReset {
		d.OnReboot = "destroy"
	}
	slots := newSlots(m)
	if m.Screen { // first: libvirt wants it in the first slot
		d.Devices.Video = &video{videoModel{"vga", 16 << 10}, slots.next()}
	}
	d.Devices.Disks, d.Devices.Controllers, d.Devices.Balloon = disksXML(m, p, slots), controllers(slots), none{"none"}
	if m.Entropy {
		d.Devices.RNG = &rng{"virtio", backend{"random", "/dev/urandom"}, slots.next()}
	}
	d.serials(m)
	if err := slots.check(); err != nil {
		return "", err
	}
	text, err := xml.MarshalIndent(d, "", "  ")
	if err != nil {
		return "", fmt.Errorf("domain: %w", err)
	}
	return emptyElement.ReplaceAllString(string(text), "<$1$2/>") + "\n", nil
}

// offered says what of a machine this backend does not offer; nil: nothing.
func offered(m vm.Machine) error {
	switch {
	case m.TPM != "":
		return errors.New("machine.TPM: this backend offers no TPM: what was measured could not be read from a TPM that libvirt started")
	case m.VNC:
		return errors.New("machine.VNC: this backend serves no screen")
	case m.Input:
		return errors.New("machine.Input: through this backend the serial console takes no input")
	}
	for i, d := range m.Disks {
		if d.Bus == vm.BusUSB {
			return fmt.Errorf("machine.Disks[%d].Bus: this backend offers no USB", i)
		}
	}
	return nil
}

// emptyElement is how encoding/xml writes one; text and attributes hold no bare '>'.
var emptyElement = regexp.MustCompile(`<([a-z:_-]+)([^>]*)></[a-z:_-]+>`)

// modelName is what libvirt calls a CPU model of QEMU's. It knows no versions (src/cpu_map in its tree); a name without
// one means version 1 on every versioned PC machine (default_cpu_version, hw/i386/pc_piix.c and pc_q35.c in QEMU's
// tree). A later version has no name there that could be derived, and is left for libvirt to refuse.
func modelName(m string) string { return strings.TrimSuffix(m, "-v1") }

func disksXML(m vm.Machine, p Place, s *slots) []disk {
	var all []disk
	letters := map[string]int{}
	for i, d := range m.Disks {
		prefix, bus := "vd", "virtio"
		if d.Bus == vm.BusIDE {
			prefix, bus = "hd", "ide" // on the machine's own controller: PIIX on pc, AHCI on q35
			if strings.Contains(m.Type, "q35") {
				prefix, bus = "sd", "sata"
			}
		}
		x := disk{
			Type: "file", Device: "disk",
			// No disk of a run outlives it: nothing is ever flushed.
			Driver: driver{Name: "qemu", Type: "raw", Cache: "unsafe", IO: "threads"},
			Source: sourceFile{p.Disks[i]}, Target: diskTarget{fmt.Sprintf("%s%c", prefix, 'a'+letters[prefix]), bus},
			Serial: d.Serial,
		}
		letters[prefix]++
		if d.ReadOnly {
			x.ReadOnly = &struct{}{}
		} else {
			x.Driver.Discard = "unmap"
		}
		if d.Bus == vm.BusVirtio {
			x.Address = s.next()
		}
		all = append(all, x)
	}
	return all
}

// controllers: libvirt adds a USB controller unless told not to.
func controllers(s *slots) []controller {
	zero := 0
	return []controller{
		{Type: "usb", Model: "none"},
		{Type: "virtio-serial", Index: &zero, Ports: 31, Address: s.next()},
	}
}

// The names of the consoles' channels. No port of a machine can be named so.
const (
	consoleChannel  = ":console"
	debugconChannel = ":debugcon"
)

// serials are the ports and the consoles. libvirt opens streams to channels, which are sockets, and to consoles that are
// terminals; and what a terminal still holds is lost when QEMU closes it (pty_close in Linux hangs up): a machine's last
// words, and they matter most. So a console is declared as a channel, and its device replaced by the one that is meant:
// the machine is the same as vm/qemu's. (docs/drvqemu.html of libvirt, 'QEMU device overrides', since 8.2.0.)
func (d *domain) serials(m vm.Machine) {
	for _, name := range m.Ports {
		d.addChannel(name)
	}
	d.replace(d.addChannel(consoleChannel), []string{"bus", "nr", "name"},
		property{Name: "driver", Type: "string", Value: "isa-serial"}, property{Name: "index", Type: "unsigned", Value: "0"})
	if m.DebugCon {
		d.replace(d.addChannel(debugconChannel), []string{"bus", "nr", "name"},
			property{Name: "driver", Type: "string", Value: "isa-debugcon"},
			property{Name: "iobase", Type: "unsigned", Value: "1026"}) // 0x402
	}
	switch {
	case !strings.HasPrefix(m.Type, "pc-"): // pvpanic is an ISA device of the PC machines
	case len(m.Ports) > 0:
		d.Devices.Panic = &panicXML{"isa"}
	default: // no channel is left for which the machine would need the controller: it gives its place
		d.replace("virtio-serial0", []string{"bus", "addr", "max_ports"},
			property{Name: "driver", Type: "string", Value: "pvpanic"})
	}
}

// addChannel declares a virtio-serial port with a socket of libvirt's choice, and returns its alias.
func (d *domain) addChannel(name string) string {
	n := len(d.Devices.Channels)
	d.Devices.Channels = append(d.Devices.Channels, channel{
		Type: "unix", Source: channelSource{"bind"}, Target: channelTarget{"virtio", name},
		Address: portAddress{"virtio-serial", 0, 0, n + 1},
	})
	return fmt.Sprintf("channel%d", n)
}

// replace makes another device of one that libvirt declares to QEMU.
func (d *domain) replace(alias string, remove []string, set ...property) {
	for _, name := range remove {
		set = append(set, property{Name: name, Type: "remove"})
	}
	d.Override.Devices = append(d.Override.Devices, override{alias, set})
}

// slots counts the PCI slots of bus 0 in the order in which QEMU itself would fill them.
type slots struct{ free, last int }

// newSlots: slot 0 is the host bridge's; on i440fx slot 1 is PIIX3's, on q35 slot 31 is ICH9's.
func newSlots(m vm.Machine) *slots {
	if strings.Contains(m.Type, "q35") {
		return &slots{free: 1, last: 30}
	}
	return &slots{free: 2, last: 31}
}

func (s *slots) next() *pciAddress {
	a := &pciAddress{"pci", "0x0000", "0x00", fmt.Sprintf("0x%02x", s.free), "0x0"}
	s.free++
	return a
}

func (s *slots) check() error {
	if s.free > s.last+1 {
		return fmt.Errorf("domain: %d virtio devices are more than the machine has PCI slots", s.free-1)
	}
	return nil
}
