package vmtest

import (
	"time"

	"github.com/belljar/belljar/vm"
)

// Machines are one machine for each use that Belljar has for one, by the name of its golden files: each backend's pure
// function is held to what it said of them before.
func Machines() map[string]vm.Machine {
	clock := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	build := vm.Machine{
		Name: "build", Arch: vm.X86_64, Type: "pc-q35-6.2", CPU: "Nehalem-v1", CPUs: 2, Memory: 2 << 30, Clock: clock,
		Accel: vm.TCG, Entropy: true, OnReset: vm.ExitOnReset, Ports: []string{"belljar.ssh"},
		Boot: vm.Boot{Kernel: "/s/vmlinuz", Initrd: "/s/initrd", Cmdline: "console=ttyS0 panic=-1 quiet"},
		Disks: []vm.Disk{
			{Serial: "root", Path: "/s/root.img", Bus: vm.BusVirtio, ReadOnly: true},
			{Serial: "inputs", Path: "/s/inputs.img", Bus: vm.BusVirtio, ReadOnly: true},
			{Serial: "scratch", Path: "/r/scratch.img", Bus: vm.BusVirtio},
			{Serial: "outputs", Path: "/r/with, comma.img", Bus: vm.BusVirtio},
		},
	}
	i686 := build
	i686.Arch, i686.CPU, i686.Memory = vm.I686, "coreduo-v1", 1<<30
	qboot := build
	qboot.Boot.ROM = "/usr/share/qemu/qboot.rom"
	configure := build
	configure.Name, configure.Disks = "configure", []vm.Disk{build.Disks[0], build.Disks[3]}
	ports := build
	ports.Name, ports.Ports, ports.DebugCon = "ports", []string{"belljar.ssh", "belljar.tpm", "log"}, true
	smoke := vm.Machine{
		Name: "smoke/q35", Arch: vm.X86_64, Type: "pc-q35-6.2", CPU: "qemu64-v1", CPUs: 1, Memory: 256 << 20, Clock: clock,
		Accel: vm.TCG, OnReset: vm.ExitOnReset, DebugCon: true, Screen: true, Boot: vm.Boot{ROM: "/r/bios.bin"},
		Disks: []vm.Disk{{Serial: "belljar-test", Path: "/r/test.img", Bus: vm.BusIDE}},
	}
	pc := smoke
	pc.Name, pc.Type, pc.OnReset = "smoke/pc", "pc-i440fx-6.2", ""
	virtio := smoke
	virtio.Disks = []vm.Disk{{Serial: "belljar-test", Path: "/r/test.img", Bus: vm.BusVirtio}}
	pcVirtio := pc
	pcVirtio.Disks = virtio.Disks
	flash := smoke
	flash.Name, flash.Boot, flash.Disks = "smoke/uefi", vm.Boot{ROM: "/r/code.fd", Vars: "/r/vars, 1.fd"}, nil
	return map[string]vm.Machine{
		"smoke-flash":  flash,
		"build-x86_64": build, "build-i686": i686, "build-qboot": qboot, "configure": configure, "ports": ports,
		"smoke-q35": smoke, "smoke-pc": pc, "smoke-q35-virtio": virtio, "smoke-pc-virtio": pcVirtio,
		"kvm-proof": vm.ProbeMachine(build, "/s/vmlinuz", "/s/proof"),
	}
}

// QEMUMachines are machines that only vm/qemu offers.
func QEMUMachines() map[string]vm.Machine {
	m := Machines()["smoke-q35"]
	m.Disks, m.DebugCon = nil, false
	tpm, tpm12, input, usb, vnc := m, m, m, m, m
	tpm.TPM, tpm12.TPM, input.Input, vnc.VNC = vm.TPM20, vm.TPM12, true, true
	usb.Disks = []vm.Disk{
		{Serial: "stick1", Path: "/r/1.img", Bus: vm.BusUSB, ReadOnly: true}, {Serial: "stick2", Path: "/r/2.img", Bus: vm.BusUSB},
	}
	return map[string]vm.Machine{"smoke-tpm2": tpm, "smoke-tpm12": tpm12, "smoke-input": input, "smoke-usb": usb, "run-vnc": vnc}
}
