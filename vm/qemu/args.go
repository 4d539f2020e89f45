package qemu

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/belljar/belljar/vm"
)

// The names of the files in a machine's folder, beside its logs. QEMU runs in that folder and sees them by these relative names:
// a socket's path may have no more than 107 bytes (unix(7)), and a run's folder is often longer.
const (
	cmdlineFile = "cmdline"
	qmpSocket   = "qmp.sock"
	inputSocket = "console.sock"
	tpmSocket   = "tpm.sock"
	vncSocket   = "vnc.sock"
)

// portSocket names the socket of a port by its place, so that a port's name cannot be too long for a socket.
func portSocket(i int) string { return fmt.Sprintf("port%d.sock", i) }

// Mode says who the command line is for.
type Mode int

const (
	// Run is Belljar's own: QEMU connects to sockets on which the host listens, and waits for 'cont' before the
	// first instruction, so that no event is lost.
	Run Mode = iota
	// Incoming is as Run, but the machine goes on from a state that the monitor is told of, in place of power-on.
	Incoming
	// ByHand is the same machine for a person in a shell: the console is the terminal's, nobody needs to listen.
	ByHand
)

// Args is QEMU's argument list for m, without the program's name. It is a pure function: the same machine, the same
// list. Paths in m are taken as they are.
func Args(m vm.Machine, mode Mode) ([]string, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	a := &args{}
	a.core(m)
	a.boot(m.Boot, m.Type)
	a.disks(m.Disks)
	a.consoles(m, mode)
	a.ports(m.Ports, mode)
	a.others(m)
	a.control(m, mode)
	return a.list, a.check()
}

// args collects flags in order.
type args struct {
	list    []string
	machine int // where -machine has its value
}

func (a *args) flag(name string, value ...string) { a.list = append(append(a.list, name), value...) }

func (a *args) device(driver string, props ...string) {
	a.flag("-device", strings.Join(append([]string{driver}, props...), ","))
}

// core is the machine itself. -nodefaults and -no-user-config keep out what QEMU's build or the host's
// configuration would add; -nic none is said although -nodefaults implies it, because the seal rests on it.
func (a *args) core(m vm.Machine) {
	a.flag("-name", m.Name)
	a.flag("-nodefaults")
	a.flag("-no-user-config")
	a.flag("-nic", "none")
	a.flag("-display", "none")
	a.flag("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny")
	a.flag("-machine", m.Type)
	a.machine = len(a.list) - 1
	if m.Accel == vm.TCG {
		a.flag("-accel", "tcg,thread=multi")
	} else {
		a.flag("-accel", string(m.Accel))
	}
	// enforce: a feature of the model that the accelerator lacks is an error, not a quiet difference between hosts.
	a.flag("-cpu", m.CPU+",enforce")
	a.flag("-smp", strconv.Itoa(m.CPUs))
	a.flag("-m", fmt.Sprintf("%dM", m.Memory>>20))
	a.flag("-rtc", "base="+m.Clock.UTC().Format("2006-01-02T15:04:05")+",clock=vm")
}

func (a *args) boot(b vm.Boot, machine string) {
	switch {
	case b.Vars != "":
		a.flash(0, b.ROM, true)
		a.flash(1, b.Vars, false)
		a.noSleep(machine)
	case b.ROM != "":
		a.flag("-bios", b.ROM)
	}
	if b.Kernel != "" {
		a.flag("-kernel", b.Kernel)
	}
	if b.Kernel != "" && b.ROM == "" {
		// QEMU's own firmware starts the kernel: it need not look for something to boot on each disk. libvirt says the same
		// for every machine.
		a.flag("-boot", "strict=on")
	}
	if b.Initrd != "" {
		a.flag("-initrd", b.Initrd)
	}
	if b.Cmdline != "" {
		a.flag("-append", b.Cmdline)
	}
}

// flash is one of the PC's two flash chips, which end where memory below 4 GiB ends (hw/i386/pc_sysfw.c in QEMU's tree).
func (a *args) flash(unit int, path string, readOnly bool) {
	node := "flash" + strconv.Itoa(unit)
	a.flag("-blockdev", strings.Join([]string{
		"driver=raw", "node-name=" + node, "read-only=" + onOff(readOnly), "cache.no-flush=on",
		"file.driver=file", "file.filename=" + escape(path), "file.cache.no-flush=on",
	}, ","))
	a.list[a.machine] += fmt.Sprintf(",pflash%d=%s", unit, node)
}

// noSleep has a machine without suspend-to-RAM (S3). 64-bit OVMF that was built to demand SMM stops at power-on in one that offers it
// (edk2, OvmfPkg/README: 'SMM_REQUIRE'); for a test, no firmware needs it.
func (a *args) noSleep(machine string) {
	chipset := "ICH9-LPC"
	if strings.HasPrefix(machine, "pc-i440fx-") {
		chipset = "PIIX4_PM"
	}
	a.flag("-global", chipset+".disable_s3=1")
}

// disks attaches raw images. No disk of a run outlives it, so nothing is ever flushed to the host's disk
// (cache.no-flush): what a guest wrote is read back through the same page cache.
func (a *args) disks(disks []vm.Disk) {
	for i, d := range disks {
		node := "disk" + strconv.Itoa(i)
		opts := []string{
			"driver=raw", "node-name=" + node, "read-only=" + onOff(d.ReadOnly),
			"cache.direct=off", "cache.no-flush=on",
			"file.driver=file", "file.filename=" + escape(d.Path), "file.aio=threads",
			"file.cache.direct=off", "file.cache.no-flush=on",
		}
		if !d.ReadOnly {
			opts = append(opts, "discard=unmap", "file.discard=unmap")
		}
		a.flag("-blockdev", strings.Join(opts, ","))
		driver := "virtio-blk-pci"
		switch d.Bus {
		case vm.BusIDE:
			driver = "ide-hd" // on the first free place of the machine's own controller: PIIX on pc, AHCI on q35
		case vm.BusUSB:
			driver = "usb-storage"
			a.usb()
		}
		a.device(driver, "drive="+node, "serial="+d.Serial)
	}
}

// usb gives the machine the USB controller that all firmware knows, once.
func (a *args) usb() {
	const xhci = "qemu-xhci"
	if !slices.Contains(a.list, xhci) {
		a.device(xhci)
	}
}

// consoles: the serial console goes to a file, or, where it takes input, to Belljar, which writes that file; the debug console
// (docs/specs in QEMU's tree: isa-debugcon) if asked.
func (a *args) consoles(m vm.Machine, mode Mode) {
	console := "file,id=console,path=" + vm.ConsoleLog
	switch {
	case mode == ByHand:
		console = "stdio,id=console,signal=on"
	case m.Input:
		console = "socket,id=console,path=" + inputSocket + server(mode)
	}
	a.flag("-chardev", console)
	a.device("isa-serial", "chardev=console", "index=0")
	if m.DebugCon {
		a.flag("-chardev", "file,id=debugcon,path="+vm.DebugconLog)
		a.device("isa-debugcon", "iobase=0x402", "chardev=debugcon")
	}
}

func (a *args) ports(ports []string, mode Mode) {
	if len(ports) == 0 {
		return
	}
	a.device("virtio-serial-pci", "id=ports", "max_ports=31")
	for i, name := range ports {
		id := "port" + strconv.Itoa(i)
		a.flag("-chardev", "socket,id="+id+",path="+portSocket(i)+server(mode))
		a.device("virtserialport", "bus=ports.0", "nr="+strconv.Itoa(i+1), "chardev="+id, "name="+name)
	}
}

// server says who listens on a socket. By hand it is QEMU, and it does not wait for anybody.
func server(mode Mode) string {
	if mode == ByHand {
		return ",server=on,wait=off"
	}
	return ",server=off"
}

func (a *args) others(m vm.Machine) {
	if m.Entropy {
		a.flag("-object", "rng-random,id=entropy,filename=/dev/urandom")
		a.device("virtio-rng-pci", "rng=entropy")
	}
	// The interface of nearly all PCs' TPMs, at its fixed address (TIS, TCG PC Client Platform TPM Profile). By hand, swtpm
	// must listen there before: see vm/tpm.
	if m.TPM != "" {
		a.flag("-chardev", "socket,id=tpm,path="+tpmSocket)
		a.flag("-tpmdev", "emulator,id=tpm0,chardev=tpm")
		a.device("tpm-tis", "tpmdev=tpm0")
	}
	// -display none shows it to nobody, but QEMU draws it all the same when screendump asks (qapi/ui.json).
	if m.Screen {
		a.device("VGA")
	}
	if m.VNC {
		a.flag("-vnc", "unix:"+vncSocket)
	}
	// pvpanic (docs/specs/pvpanic in QEMU's tree) is how a kernel says that it panicked. It is an ISA device.
	if strings.HasPrefix(m.Type, "pc-") {
		a.device("pvpanic")
	}
}

// control: what a reset does, and the monitor.
func (a *args) control(m vm.Machine, mode Mode) {
	if m.OnReset == vm.ExitOnReset {
		a.flag("-no-reboot")
	}
	if mode != ByHand {
		a.flag("-chardev", "socket,id=qmp,path="+qmpSocket+",server=off")
		a.flag("-mon", "chardev=qmp,mode=control")
		a.flag("-S")
	}
	if mode == Incoming {
		a.flag("-incoming", "defer")
	}
}

// repeatable are the flags that may stand more than once; any other twice is an error, for QEMU takes the last one
// silently.
var repeatable = map[string]bool{"-device": true, "-chardev": true, "-blockdev": true, "-object": true}

// valueless are the flags that take no value.
var valueless = map[string]bool{"-nodefaults": true, "-no-user-config": true, "-no-reboot": true, "-S": true}

// check walks the list as QEMU does, and refuses duplicate flags and ids.
func (a *args) check() error {
	seen := map[string]bool{}
	for i := 0; i < len(a.list); i++ {
		name := a.list[i]
		if !strings.HasPrefix(name, "-") {
			return fmt.Errorf("qemu arguments: %q stands where a flag should", name)
		}
		if seen[name] && !repeatable[name] {
			return fmt.Errorf("qemu arguments: flag %s stands twice", name)
		}
		seen[name] = true
		if valueless[name] {
			continue
		}
		i++
		if i == len(a.list) {
			return fmt.Errorf("qemu arguments: flag %s has no value", name)
		}
		for _, opt := range strings.Split(a.list[i], ",") {
			if id, ok := strings.CutPrefix(opt, "id="); ok && repeatable[name] && name != "-blockdev" {
				if seen["id="+id] {
					return fmt.Errorf("qemu arguments: id %s stands twice", id)
				}
				seen["id="+id] = true
			}
		}
	}
	return nil
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

// escape doubles commas: QEMU's option lists (qemu-options: QemuOpts) know no other quoting.
func escape(s string) string { return strings.ReplaceAll(s, ",", ",,") }

// plain are the characters that mean nothing to a shell.
const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=+.,:/@%"

// Quote joins a command line such that a POSIX shell reads the same words.
func Quote(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		if w != "" && strings.Trim(w, plain) == "" {
			out[i] = w
			continue
		}
		out[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
	}
	return strings.Join(out, " ")
}
