package main

import (
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// The kernel finds disks one after another, and a slow one late. Patience is for all of them together.
const (
	patience = 30 * time.Second
	pause    = 10 * time.Millisecond
)

// finder looks for disks where the kernel shows them (Documentation/ABI/stable/sysfs-block).
type finder struct {
	sys  string // /sys/block
	dev  string // /dev
	left time.Duration
}

// layout is where things are: names of disks and partitions in /dev. Empty: there is none.
type layout struct {
	root, part, hashes       string // the root's disk, its partition, that of its hash tree
	inputs, scratch, outputs string // disks
}

// disks waits for all that the command line names.
func (f *finder) disks(o options) (l layout, err error) {
	var by map[string]string
	for _, serial := range o.disks {
		if by[serial] != "" {
			continue
		}
		if err := f.await(func() bool { by = f.bySerial(); return by[serial] != "" }, func() string {
			return "no disk with serial '" + serial + "'; there is: " + strings.Join(slices.Sorted(maps.Keys(by)), " ")
		}); err != nil {
			return l, err
		}
	}
	if o.search {
		if err := f.await(func() bool { l.root = f.anywhere(o.label); return l.root != "" }, func() string {
			return "no disk has a partition '" + o.label + "'; there is: " + strings.Join(f.all(), " ")
		}); err != nil {
			return l, err
		}
	} else {
		l.root, l.inputs, l.scratch, l.outputs = by["root"], by["inputs"], by["scratch"], by["outputs"]
	}
	if err := f.await(func() bool { l.part = f.partition(l.root, o.label); return l.part != "" }, func() string {
		return "the disk " + l.root + " has no partition '" + o.label + "'"
	}); err != nil {
		return l, err
	}
	if o.verity == "" {
		return l, nil
	}
	if l.hashes = f.partition(l.root, o.label+"-verity"); l.hashes == "" {
		return l, errors.New("image: the disk " + l.root + " has no partition '" + o.label + "-verity' for its hash tree")
	}
	return l, nil
}

// await tries until it is there, as long as the patience lasts.
func (f *finder) await(there func() bool, reason func() string) error {
	for !there() {
		if f.left <= 0 {
			return errors.New(reason())
		}
		time.Sleep(pause)
		f.left -= pause
	}
	return nil
}

// all are the names of the disks.
func (f *finder) all() []string { return names(f.sys) }

// bySerial are the names of the disks that have a serial number, by it: virtio-blk shows it in its own folder.
func (f *finder) bySerial() map[string]string {
	by := map[string]string{}
	for _, d := range f.all() {
		if b, err := os.ReadFile(f.sys + "/" + d + "/serial"); err == nil {
			by[strings.TrimSpace(string(b))] = d
		}
	}
	return by
}

// partition is the name of a disk's partition with a label, which a GPT has.
func (f *finder) partition(disk, label string) string {
	if disk == "" {
		return ""
	}
	for _, p := range names(f.sys + "/" + disk) {
		if !strings.HasPrefix(p, disk) {
			continue
		}
		b, err := os.ReadFile(f.sys + "/" + disk + "/" + p + "/uevent")
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if strings.TrimSuffix(line, "\n") != "PARTNAME="+label {
				continue
			}
			if _, err := os.Stat(f.dev + "/" + p); err == nil { // its node comes a moment later
				return p
			}
		}
	}
	return ""
}

// anywhere is the first disk that has a partition with that label.
func (f *finder) anywhere(label string) string {
	for _, d := range f.all() {
		if f.partition(d, label) != "" {
			return d
		}
	}
	return ""
}

// names are those of what is in a folder, sorted; of none that cannot be read.
func names(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	all := make([]string, 0, len(entries))
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}
