package image

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// Report is what an image is made of.
type Report struct {
	Name       string             `json:"name"`
	Format     string             `json:"format"`
	Packed     string             `json:"packed,omitempty"`
	Size       int64              `json:"size"`
	Notes      []string           `json:"notes,omitempty"`
	Partitions []Partition        `json:"partitions"`
	RootHash   string             `json:"root_hash,omitempty"` // of dm-verity, as the partitions' identifiers say it
	OS         map[string]string  `json:"os"`                  // os-release(5)
	Packages   []InstalledPackage `json:"packages"`
	Files      map[string]int     `json:"files"` // how many of each type; further names of a file as "hard link"
	Bytes      int64              `json:"bytes"` // content of all files
	SetID      []File             `json:"set_id"`
	Xattrs     []FileXattrs       `json:"xattrs"`
	Verified   bool               `json:"verified,omitempty"`   // Deviations were looked for
	Deviations []Deviation        `json:"deviations,omitempty"` // see Verify
}

// FileXattrs are the extended attributes of a file, readable.
type FileXattrs struct {
	Path   string            `json:"path"`
	Xattrs map[string]string `json:"xattrs"`
}

// TypeHardLink counts, in a Report, the names that a file has beyond its first.
const TypeHardLink = "hard link"

// Inspect reports on the whole image. One whose file system cannot be read is reported on as far as that goes.
func (m *Image) Inspect() *Report {
	r := &Report{
		Name: m.Name, Format: m.Format, Packed: m.Packed, Size: m.Size, Notes: slices.Clone(m.Notes),
		Partitions: append([]Partition{}, m.Partitions...), OS: m.osRelease(),
		Packages: append([]InstalledPackage{}, m.database().packages...), Files: map[string]int{},
		RootHash: rootHash(m.ownSlots("")), SetID: []File{}, Xattrs: []FileXattrs{},
	}
	if m.database().err != nil {
		r.Notes = append(r.Notes, "its list of packages is damaged: "+m.database().err.Error())
	}
	if m.tree == nil {
		r.Notes = append(r.Notes, m.noTree.Error())
		return r
	}
	seen := map[*node]bool{}
	for name, n := range m.tree.all() {
		if seen[n] {
			r.Files[TypeHardLink]++
			continue
		}
		seen[n] = true
		r.Files[typeName(n.mode)]++
		if n.mode&typeMask == typeFile {
			r.Bytes += n.size
		}
		if n.mode&0o6000 != 0 && !n.isDir() {
			r.SetID = append(r.SetID, m.file(name, n))
		}
		if len(n.xattrs) > 0 {
			r.Xattrs = append(r.Xattrs, FileXattrs{absolute(name), readableXattrs(n.xattrs)})
		}
	}
	return r
}

// osRelease reads os-release(5).
func (m *Image) osRelease() map[string]string {
	fields := map[string]string{}
	if m.tree == nil {
		return fields
	}
	for _, name := range []string{"etc/os-release", "usr/lib/os-release"} {
		data, err := m.textOf(name, 1<<20)
		if err != nil {
			continue
		}
		for line := range strings.SplitSeq(string(data), "\n") {
			key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
			if !ok || strings.HasPrefix(key, "#") {
				continue
			}
			if quoted, err := strconv.Unquote(value); err == nil {
				value = quoted
			}
			fields[key] = strings.Trim(value, "'")
		}
		break
	}
	return fields
}

// readableXattrs writes capabilities as setcap(8) does, and what is not text as hexadecimal digits.
func readableXattrs(xattrs map[string]string) map[string]string {
	out := map[string]string{}
	for name, value := range xattrs {
		out[name] = xattrText(name, value)
	}
	return out
}

func xattrText(name, value string) string {
	if name == "security.capability" {
		if text, ok := capabilityText(value); ok {
			return text
		}
	}
	text := strings.TrimRight(value, "\x00")
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == '\ufffd' || r == 0x7f }) {
		return fmt.Sprintf("0x%x", value)
	}
	return text
}

// capabilityText reads a struct vfs_cap_data (Linux, include/uapi/linux/capability.h), of version 2 or 3.
func capabilityText(value string) (string, bool) {
	b := []byte(value)
	if len(b) != 20 && len(b) != 24 {
		return "", false
	}
	le := binary.LittleEndian
	magic := le.Uint32(b)
	if v := magic >> 24; v != 2 && v != 3 || v == 3 && len(b) != 24 {
		return "", false
	}
	permitted := uint64(le.Uint32(b[4:])) | uint64(le.Uint32(b[12:]))<<32
	inheritable := uint64(le.Uint32(b[8:])) | uint64(le.Uint32(b[16:]))<<32
	// One clause for each set of flags, as cap_to_text(3) has it: names, then e, i, p.
	var clauses []string
	for _, c := range []struct {
		set   uint64
		flags string
	}{
		{permitted &^ inheritable, "p"}, {permitted & inheritable, "ip"}, {inheritable &^ permitted, "i"},
	} {
		if c.set == 0 {
			continue
		}
		if magic&1 != 0 {
			c.flags = "e" + c.flags
		}
		clauses = append(clauses, capabilityNames(c.set)+"="+c.flags)
	}
	text := strings.Join(clauses, " ")
	if len(b) == 24 && le.Uint32(b[20:]) != 0 {
		text += fmt.Sprintf(" [rootid=%d]", le.Uint32(b[20:]))
	}
	return text, true
}

// capabilities are the names by bit, as in capability.h of Linux 6.1.
var capabilities = strings.Fields(`chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap
linux_immutable net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot
sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write
audit_control setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore`)

func capabilityNames(set uint64) string {
	var names []string
	for ; set != 0; set &= set - 1 {
		bit := bits.TrailingZeros64(set)
		if bit < len(capabilities) {
			names = append(names, "cap_"+capabilities[bit])
		} else {
			names = append(names, strconv.Itoa(bit))
		}
	}
	return strings.Join(names, ",")
}
