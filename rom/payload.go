package rom

import (
	"cmp"
	"io"
	"regexp"
	"strings"

	"github.com/therootcompany/xz"

	"github.com/belljar/belljar/rom/cbfs"
	"github.com/belljar/belljar/rom/scan"
)

// Payload is what coreboot starts.
type Payload struct {
	Kind        string `json:"kind"`
	Version     string `json:"version,omitempty"`
	CommandLine string `json:"command_line,omitempty"` // of Linux
	Initrd      int64  `json:"initrd,omitempty"`       // of Linux, in bytes of memory
	Heads       bool   `json:"heads,omitempty"`        // the initrd is that of Heads
}

// The kinds of payloads.
const (
	PayloadSeaBIOS = "SeaBIOS"
	PayloadLinux   = "Linux"
	PayloadUBoot   = "U-Boot"
	PayloadGRUB    = "GRUB"
	PayloadUEFI    = "TianoCore"
	PayloadFIT     = "FIT" // a flattened image tree, Linux mostly
	PayloadUnknown = "unknown"
)

// Where cbfstool puts the parts of a Linux payload (util/cbfstool/linux_trampoline.h).
const (
	linuxEntry       = 0x40000
	linuxParameters  = 0x90000
	linuxCommandLine = 0x91000
	linuxInitrd      = 64 << 20 // or a multiple of it
)

// payload finds out what the payload is, and unpacks it on the way.
func (m *Image) payload() error {
	f := m.Primary().File(Prefix + "payload")
	switch {
	case f == nil:
		return nil
	case f.Type == cbfs.TypeFIT:
		m.Payload = &Payload{Kind: PayloadFIT}
		return nil
	}
	m.Payload = &Payload{Kind: PayloadUnknown}
	segments, err := f.Segments()
	if err != nil {
		return m.damage(err)
	}
	for _, s := range segments {
		if s.Compression != cbfs.None && s.Size > 0 {
			_, err := unpacked(s.Open) // in memory it may be larger: an ELF's zeros are not stored
			if err := m.damage(err); err != nil {
				return err
			}
		}
	}
	if linux, err := m.Payload.linux(segments); linux || err != nil {
		return m.damage(err)
	}
	for _, s := range segments {
		if s.Size == 0 || m.Payload.Kind != PayloadUnknown {
			continue
		}
		if err := m.damage(m.Payload.named(s)); err != nil {
			return err
		}
	}
	return nil
}

// named looks into one segment for what payloads print of themselves.
func (p *Payload) named(s cbfs.Segment) error {
	var broken error
	open := func() io.Reader {
		r, err := s.Open()
		if err != nil {
			broken = err
			return strings.NewReader("")
		}
		return r
	}
	if version, ok, err := isSeaBIOS(open); ok || err != nil || broken != nil {
		p.found(ok, PayloadSeaBIOS, version)
		return cmp.Or(broken, err)
	}
	if hit, ok, err := scan.First(open(), ubootBanner, longest); ok || err != nil {
		if ok {
			p.found(true, PayloadUBoot, string(hit.Groups[0]))
		}
		return err
	}
	if _, ok, err := scan.First(open(), grubBanner, longest); ok || err != nil {
		p.found(ok, PayloadGRUB, "")
		return err
	}
	_, ok, err := scan.First(open(), volumeMark, longest)
	p.found(ok, PayloadUEFI, "")
	return err
}

func (p *Payload) found(ok bool, kind, version string) {
	if ok {
		p.Kind, p.Version = kind, version
	}
}

// linux knows a Linux payload by where its parts are loaded: the kernel itself is compressed once more.
func (p *Payload) linux(segments []cbfs.Segment) (bool, error) {
	entry, parameters := false, false
	var commandLine, initrd cbfs.Segment
	for _, s := range segments {
		switch {
		case s.Kind == "ENTR":
			entry = s.Load == linuxEntry
		case s.Load == linuxParameters:
			parameters = true
		case s.Load == linuxCommandLine:
			commandLine = s
		case s.Kind == "DATA" && s.Load >= linuxInitrd && s.Load%linuxInitrd == 0:
			initrd = s
		}
	}
	if !entry || !parameters {
		return false, nil
	}
	p.Kind, p.Initrd = PayloadLinux, initrd.Memory
	if commandLine.Size > 0 {
		r, err := commandLine.Open()
		if err != nil {
			return true, err
		}
		text, err := io.ReadAll(io.LimitReader(r, 4096))
		if err != nil {
			return true, err
		}
		p.CommandLine = strings.TrimRight(string(text), "\x00")
	}
	if initrd.Size == 0 {
		return true, nil
	}
	var err error
	p.Heads, err = isHeads(initrd)
	return true, err
}

// headsFile is a program that Heads alone has in its initrd (linuxboot/heads, initrd/bin/cbfs-init), as a cpio archive names it.
var headsFile = regexp.MustCompile(`bin/cbfs-init\x00`)

// maxXZDictionary bounds the memory that an initrd may ask for; Heads packs its own with 1 MiB.
const maxXZDictionary = 64 << 20

// isHeads looks into an initrd, which Heads packs by xz. One that cannot be unpacked is somebody else's: what matters of
// an initrd is told by the kernel that unpacks it.
func isHeads(initrd cbfs.Segment) (bool, error) {
	r, err := initrd.Open()
	if err != nil {
		return false, err
	}
	packed, err := xz.NewReader(r, maxXZDictionary)
	if err != nil {
		return false, nil //nolint:nilerr // not packed by xz: not that of Heads
	}
	_, ok, _ := scan.First(io.LimitReader(packed, maxInitrd), headsFile, longest)
	return ok, nil
}

// maxInitrd is how much of an initrd is looked through, unpacked.
const maxInitrd = 256 << 20
