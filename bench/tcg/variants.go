package main

import (
	"fmt"
	"strings"
)

// variant is a change of QEMU's arguments.
type variant struct {
	name  string
	what  string
	edits []edit
}

// edit changes the value of a flag, or stands before all flags.
type edit struct {
	flag, starts string // the flag, and how its value must start
	front        string // arguments before all others
	set          string // the new value
	add          string // what is added to it
	from, to     string // what is replaced in it, once
}

func find(name string) (variant, error) {
	for _, v := range variants {
		if v.name == name {
			return v, nil
		}
	}
	return variant{}, fmt.Errorf("no variant %q: see -list", name)
}

// script is a program that becomes QEMU with its arguments changed and the machine's name replaced.
func (v variant) script(qemu, name string) string {
	var b strings.Builder
	front := ""
	fmt.Fprintf(&b, "#!/bin/sh\nlast=\nfor a do\n\tshift\n\tgiven=$a\n")
	fmt.Fprintf(&b, "\t[ \"$last\" != -name ] || a=%s\n", quote(name))
	for _, e := range v.edits {
		front += e.front
		if e.flag == "" {
			continue
		}
		fmt.Fprintf(&b, "\tcase \"$last $a\" in %s*)\n", quote(e.flag+" "+e.starts))
		switch {
		case e.set != "":
			fmt.Fprintf(&b, "\t\ta=%s\n", quote(e.set))
		case e.add != "":
			fmt.Fprintf(&b, "\t\ta=$a%s\n", quote(e.add))
		default:
			f := quote(e.from)
			fmt.Fprintf(&b, "\t\tcase $a in *%s*) a=${a%%%%%s*}%s${a#*%s} ;; esac\n", f, f, quote(e.to), f)
		}
		fmt.Fprintf(&b, "\t;; esac\n")
	}
	fmt.Fprintf(&b, "\tset -- \"$@\" \"$a\"\n\tlast=$given\ndone\nexec %s%s \"$@\"\n", quote(qemu), front)
	return b.String()
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// variants are all that was tried. Those of the kernel's command line come behind belljar's own words, and the last one of
// a kind counts.
var variants = []variant{
	{asIs, "belljar as it is", nil},

	{"thread-single", "-accel tcg,thread=single", with("-accel", "tcg,thread=single")},
	{"one-cpu", "-smp 1", with("-smp", "1")},
	{"one-cpu-single", "-smp 1, thread=single", both(with("-smp", "1"), with("-accel", "tcg,thread=single"))},
	{"tb-64", "-accel tcg,tb-size=64", adding("-accel", ",tb-size=64")},
	{"tb-256", "-accel tcg,tb-size=256", adding("-accel", ",tb-size=256")},
	{"tb-512", "-accel tcg,tb-size=512", adding("-accel", ",tb-size=512")},
	{"tb-1024", "-accel tcg,tb-size=1024", adding("-accel", ",tb-size=1024")},

	{"cpu-qemu64", "-cpu qemu64-v1", with("-cpu", "qemu64-v1,enforce")},
	{"cpu-westmere", "-cpu Westmere-v1 (AES)", with("-cpu", "Westmere-v1,enforce")},
	{"cpu-haswell", "-cpu Haswell-v4 (AVX2), as far as TCG has it", with("-cpu", "Haswell-v4")},
	{"cpu-no-sse4", "-cpu Nehalem-v1 without SSE4", adding("-cpu", ",-sse4.1,-sse4.2,-ssse3")},

	{"memfd", "-object memory-backend-memfd", backend("memory-backend-memfd")},
	{"hugetlb", "-object memory-backend-memfd,hugetlb=on (pages must be reserved first)", backend("memory-backend-memfd,hugetlb=on")},
	{"ram-prealloc", "-object memory-backend-ram,prealloc=on", backend("memory-backend-ram,prealloc=on")},
	{"ram-no-merge", "-object memory-backend-ram,merge=off,dump=off", backend("memory-backend-ram,merge=off,dump=off")},

	{"ports-2", "virtio-serial-pci,max_ports=2", replacing("-device", "max_ports=31", "max_ports=2")},
	{"queues-1", "virtio-blk-pci,num-queues=1", device("virtio-blk-pci", ",num-queues=1")},
	{"queue-256", "virtio-blk-pci,queue-size=256", device("virtio-blk-pci", ",queue-size=256")},
	{"packed", "virtio-blk-pci,packed=on", device("virtio-blk-pci", ",packed=on")},
	{"iothread", "virtio-blk-pci in a thread of its own", both(object("iothread,id=io"), device("virtio-blk-pci", ",iothread=io"))},
	{"aio-uring", "file.aio=io_uring", replacing("-blockdev", "file.aio=threads", "file.aio=io_uring")},
	{"no-ioeventfd", "ioeventfd=off for all virtio devices", both(device("virtio-blk-pci", ",ioeventfd=off"), device("virtio-serial-pci", ",ioeventfd=off"))},
	{"no-msi", "vectors=0 for virtio-serial", device("virtio-serial-pci", ",vectors=0")},

	{"no-hpet", "-machine hpet=off", adding("-machine", ",hpet=off")},
	{"no-smm", "-machine smm=off", adding("-machine", ",smm=off")},
	{"no-vmport", "-machine vmport=off", adding("-machine", ",vmport=off")},
	{"no-pit-sata", "-machine hpet=off,smm=off,vmport=off,sata=off,i8042=off,graphics=off", adding("-machine", ",hpet=off,smm=off,vmport=off,sata=off,graphics=off")},

	{"k-mitigations", "without mitigations=off", without("mitigations=off")},
	{"k-watchdog", "without nowatchdog", without("nowatchdog")},
	{"k-loud", "without quiet", without("quiet")},
	{"k-silent", "loglevel=0", word("loglevel=0")},
	{"k-audit", "audit=0", word("audit=0")},
	{"k-lsm", "lsm= apparmor=0 selinux=0", word("lsm= apparmor=0 selinux=0")},
	{"k-init-on-alloc", "init_on_alloc=0", word("init_on_alloc=0 init_on_free=0")},
	{"k-thp", "transparent_hugepage=always", word("transparent_hugepage=always")},
	{"k-thp-never", "transparent_hugepage=never", word("transparent_hugepage=never")},
	{"k-highres", "highres=off", word("highres=off")},
	{"k-nohz", "nohz=off", word("nohz=off")},
	{"k-rcu", "rcupdate.rcu_expedited=1", word("rcupdate.rcu_expedited=1")},
	{"k-rcu-normal", "rcupdate.rcu_normal=1", word("rcupdate.rcu_normal=1")},
	{"k-preempt", "preempt=none", word("preempt=none")},
	{"k-preempt-voluntary", "preempt=voluntary", word("preempt=voluntary")},
	{"k-tsc", "clocksource=tsc", word("clocksource=tsc")},
	{"k-acpi-pm", "clocksource=acpi_pm", word("clocksource=acpi_pm")},
	{"k-poll", "idle=poll", word("idle=poll")},
	{"k-halt", "idle=halt", word("idle=halt")},
	{"k-nopti", "nopti nospectre_v1 (part of mitigations=off)", word("nopti nospectre_v1")},
	{"k-initcalls", "initcall_blacklist of drivers that find nothing", word("initcall_blacklist=i8042_init,serio_init")},
	{"k-async", "cryptomgr.notests", word("cryptomgr.notests raid=noautodetect")},
	{"k-lpj", "lpj=4000000", word("lpj=4000000")},
	{"k-no-random", "random.trust_cpu=off", word("random.trust_cpu=off")},
}

// The ways to change arguments.

func with(flag, v string) []edit { return []edit{{flag: flag, set: v}} }

func adding(flag, more string) []edit { return []edit{{flag: flag, add: more}} }

func replacing(flag, from, to string) []edit { return []edit{{flag: flag, from: from, to: to}} }

func device(driver, more string) []edit { return []edit{{flag: "-device", starts: driver, add: more}} }

func object(o string) []edit { return []edit{{front: " -object " + quote(o)}} }

func word(w string) []edit { return adding("-append", " "+w) }

func without(w string) []edit { return replacing("-append", " "+w, "") }

// backend gives the guest's memory an object of its own; the shipped guests have 2 GiB.
func backend(kind string) []edit {
	return both(object(kind+",id=ram,size=2048M"), adding("-machine", ",memory-backend=ram"))
}

func both(a, b []edit) []edit { return append(append([]edit(nil), a...), b...) }
