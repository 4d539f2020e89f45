package vm

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Machine is all that a virtual machine is: a plain value. A Backend turns it into a command line or a domain
// by a pure function; the record keeps it as it is.
type Machine struct {
	Name     string    `json:"name"`            // shown to people: 'build', 'smoke/q35'
	Arch     string    `json:"arch"`            // x86_64 or i686
	Type     string    `json:"type"`            // versioned machine type, e.g. pc-q35-6.2
	CPU      string    `json:"cpu"`             // named CPU model, never host
	CPUs     int       `json:"cpus"`            // count
	Memory   int64     `json:"memory"`          // bytes, a multiple of 1 MiB
	Clock    time.Time `json:"clock"`           // the RTC at power-on (UTC); from there it follows the virtual machine's clock
	Accel    Accel     `json:"accel"`           // kvm or tcg, decided before: a Machine never says auto
	Boot     Boot      `json:"boot"`            // a kernel or a ROM
	Disks    []Disk    `json:"disks"`           // in the order in which the guest sees them
	Ports    []string  `json:"ports"`           // virtio-serial ports by name; the host listens, QEMU connects
	DebugCon bool      `json:"debugcon"`        // capture the ISA debug console (port 0x402) as the log 'debugcon'
	Input    bool      `json:"input,omitempty"` // the serial console takes input (Typist)
	TPM      TPM       `json:"tpm,omitempty"`   // a fresh emulated TPM of that version; empty is none
	Entropy  bool      `json:"entropy"`         // a virtio-rng device
	Screen   bool      `json:"screen"`          // a VGA display, which nobody sees until it is asked for (Screendumper)
	VNC      bool      `json:"vnc,omitempty"`   // the screen is served to whoever dials it (Viewed)
	OnReset  string    `json:"on_reset"`        // 'exit' (-no-reboot) or '' (really reset)
}

// Boot is how the machine starts. With neither Kernel nor ROM, QEMU boots its own firmware; with both, the ROM is what starts
// the kernel, which QEMU hands to it.
type Boot struct {
	Kernel  string `json:"kernel,omitempty"`  // path of a bzImage
	Initrd  string `json:"initrd,omitempty"`  // path of an initramfs
	Cmdline string `json:"cmdline,omitempty"` // of the kernel
	ROM     string `json:"rom,omitempty"`     // path of a firmware image
	// Vars is the path of a second flash chip, which the firmware writes to: then the ROM is no BIOS image (-bios) but the
	// first chip, which cannot be written. UEFI keeps its variables so.
	Vars string `json:"vars,omitempty"`
}

// Disk is a raw image file of this host. A writable one is mostly holes: they read as zeros, and a backend that copies
// the file elsewhere copies what lies between them. Its file need not change with what the guest writes: see DiskReader.
type Disk struct {
	Serial   string `json:"serial"` // at most 20 bytes; the guest finds the disk by it
	Path     string `json:"path"`
	Bus      string `json:"bus"` // virtio, ide or usb
	ReadOnly bool   `json:"read_only"`
}

// Accel is an accelerator.
type Accel string

// The accelerators. Auto is only ever asked for, never run with.
const (
	Auto Accel = "auto"
	KVM  Accel = "kvm"
	TCG  Accel = "tcg"
)

// TPM is the version of a Trusted Platform Module.
type TPM string

// The versions of a TPM.
const (
	TPM12 TPM = "1.2"
	TPM20 TPM = "2.0"
)

// The architectures, the buses, and what a reset may do.
const (
	X86_64 = "x86_64"
	I686   = "i686"

	BusVirtio = "virtio"
	BusIDE    = "ide"
	BusUSB    = "usb"

	ExitOnReset = "exit"
)

// Limits: serials are cut at 20 bytes by virtio-blk (VIRTIO_BLK_ID_BYTES, linux/virtio_blk.h); the CMOS clock has
// two digits of a year, and QEMU's -m counts in MiB.
const (
	serialBytes = 20
	mib         = 1 << 20
)

var (
	// versionedType is QEMU's way of naming a machine that never changes: pc-q35-6.2, pc-i440fx-7.2.
	versionedType = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*-[0-9]+\.[0-9]+$`)
	portName      = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	modelName     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
)

// FieldError says which field of a Machine is wrong, and why.
type FieldError struct {
	Field  string // as in the Go type: Disks[1].Serial
	Reason string
}

func (e *FieldError) Error() string { return "machine." + e.Field + ": " + e.Reason }

func wrong(field, format string, args ...any) error {
	return &FieldError{Field: field, Reason: fmt.Sprintf(format, args...)}
}

// Validate checks all that can be known without a host. The error is a *FieldError and names the first wrong field.
func (m Machine) Validate() error {
	for _, check := range []func() error{m.validateCore, m.validateBoot, m.validateDisks, m.validatePorts} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (m Machine) validateCore() error {
	switch {
	case m.Name == "" || strings.ContainsAny(m.Name, ",=\n\x00"):
		return wrong("Name", "%q: want a name without ',', '=' and line breaks", m.Name)
	case m.Arch != X86_64 && m.Arch != I686:
		return wrong("Arch", "%q: want %s or %s", m.Arch, X86_64, I686)
	case !versionedType.MatchString(m.Type):
		return wrong("Type", "%q: want a versioned machine type such as pc-q35-6.2", m.Type)
	case m.CPU == "host" || m.CPU == "max":
		return wrong("CPU", "%q differs between hosts: want a named model such as Nehalem-v1", m.CPU)
	case !modelName.MatchString(m.CPU):
		return wrong("CPU", "%q: want a named model such as Nehalem-v1", m.CPU)
	case m.CPUs < 1 || m.CPUs > 255:
		return wrong("CPUs", "%d: want 1 to 255", m.CPUs)
	case m.Memory < mib || m.Memory%mib != 0:
		return wrong("Memory", "%d bytes: want a multiple of 1 MiB (1048576 bytes)", m.Memory)
	case m.Clock.Year() < 1980 || m.Clock.Year() > 2079:
		return wrong("Clock", "%s: want a date from 1980 to 2079", m.Clock.UTC().Format(time.DateOnly))
	case m.Accel != KVM && m.Accel != TCG:
		return wrong("Accel", "%q: want kvm or tcg (auto is decided before)", m.Accel)
	case m.TPM != "" && m.TPM != TPM12 && m.TPM != TPM20:
		return wrong("TPM", "%q: want %s, %s or nothing", m.TPM, TPM12, TPM20)
	case m.VNC && !m.Screen:
		return wrong("VNC", "set without a Screen")
	case m.OnReset != "" && m.OnReset != ExitOnReset:
		return wrong("OnReset", "%q: want 'exit' or nothing", m.OnReset)
	}
	return nil
}

func (m Machine) validateBoot() error {
	b := m.Boot
	switch {
	case b.Kernel != "" && b.Vars != "":
		return wrong("Boot.Vars", "set with a kernel")
	case b.Kernel == "" && b.Initrd != "":
		return wrong("Boot.Initrd", "set without a kernel")
	case b.Kernel == "" && b.Cmdline != "":
		return wrong("Boot.Cmdline", "set without a kernel")
	case b.ROM == "" && b.Vars != "":
		return wrong("Boot.Vars", "set without a ROM")
	case strings.ContainsAny(b.Cmdline, "\n\x00"):
		return wrong("Boot.Cmdline", "holds a line break or NUL")
	}
	return nil
}

func (m Machine) validateDisks() error {
	seen := map[string]int{}
	for i, d := range m.Disks {
		field := func(name string) string { return fmt.Sprintf("Disks[%d].%s", i, name) }
		if d.Serial == "" || len(d.Serial) > serialBytes || !portName.MatchString(d.Serial) {
			return wrong(field("Serial"), "%q: want 1 to %d letters, digits, '.', '_' or '-'", d.Serial, serialBytes)
		}
		if j, ok := seen[d.Serial]; ok {
			return wrong(field("Serial"), "%q is also the serial of Disks[%d]", d.Serial, j)
		}
		seen[d.Serial] = i
		switch {
		case d.Path == "":
			return wrong(field("Path"), "empty")
		case d.Bus != BusVirtio && d.Bus != BusIDE && d.Bus != BusUSB:
			return wrong(field("Bus"), "%q: want virtio, ide or usb", d.Bus)
		case d.Bus == BusIDE && d.ReadOnly:
			return wrong(field("ReadOnly"), "an IDE disk cannot be read-only: hand in a copy, or use virtio")
		}
	}
	return nil
}

func (m Machine) validatePorts() error {
	seen := map[string]bool{}
	for i, p := range m.Ports {
		if !portName.MatchString(p) {
			return wrong(fmt.Sprintf("Ports[%d]", i), "%q: want at most 63 letters, digits, '.', '_' or '-'", p)
		}
		if seen[p] {
			return wrong(fmt.Sprintf("Ports[%d]", i), "%q is listed twice", p)
		}
		seen[p] = true
	}
	if len(m.Ports) > 30 { // port 0 is the console's; QEMU's virtio-serial has 31
		return wrong("Ports", "%d ports: want at most 30", len(m.Ports))
	}
	return nil
}
