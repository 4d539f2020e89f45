package main

import "strings"

// options are what the kernel's command line says to init.
type options struct {
	// disks are the serials of the disks to wait for, the root's among them (belljar.disks=root,inputs,…).
	disks []string
	// label is that of the root's partition. With search it is looked for on every disk, and no other disk matters
	// (belljar.root=PARTLABEL=…); otherwise on the disk with the serial 'root'.
	label  string
	search bool
	// verity is the root hash of the hash tree that lies in the partition with the root's label and '-verity'; empty: the
	// root is not checked (belljar.verity=…).
	verity string
	// mode is pid1.sh's: ssh, or console, where a person gets a shell (belljar.console).
	mode string
}

// parseCmdline reads /proc/cmdline. What it does not know is the kernel's.
func parseCmdline(line string) options {
	o := options{disks: []string{"root"}, label: "root", mode: "ssh"}
	for word := range strings.FieldsSeq(line) {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "belljar.disks":
			o.disks = strings.Split(value, ",")
		case "belljar.root":
			if label, ok := strings.CutPrefix(value, "PARTLABEL="); ok {
				o.label, o.search, o.disks = label, true, nil
			}
		case "belljar.verity":
			o.verity = value
		case "belljar.console":
			o.mode = "console"
		}
	}
	return o
}
