package rom

import (
	"io"
	"strings"

	"github.com/belljar/belljar/rom/cbfs"
	"github.com/belljar/belljar/rom/scan"
)

// Payload is what coreboot starts.
type Payload struct {
	Kind        string `json:"kind"`
	Version     string `json:"version,omitempty"`
	CommandLine string `json:"command_line,omitempty"` // of Linux
	Initrd      int64  `json:"initrd,omitempty"`       // of Linux, in bytes of memory
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
		if s.Size == 0 {
			continue
		}
		if s.Compression != cbfs.None {
			if err := m.damage(unpacks(s.Open, s.Memory, "a segment of "+f.Name)); err != nil {
				return err
			}
		}
		if err := m.damage(m.Payload.segment(s)); err != nil {
			return err
		}
	}
	m.Payload.linux(segments)
	return nil
}

// segment looks into one segment for what payloads print of themselves.
func (p *Payload) segment(s cbfs.Segment) error {
	var broken error
	open := func() io.Reader {
		r, err := s.Open()
		if err != nil {
			broken = err
			return strings.NewReader("")
		}
		return r
	}
	if s.Load == linuxCommandLine {
		text, err := io.ReadAll(io.LimitReader(open(), 4096))
		p.CommandLine = strings.TrimRight(string(text), "\x00")
		return firstOf(broken, err)
	}
	if p.Kind != PayloadUnknown {
		return nil
	}
	if version, ok, err := isSeaBIOS(open); ok || err != nil || broken != nil {
		p.found(ok, PayloadSeaBIOS, version)
		return firstOf(broken, err)
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

// linux knows a Linux payload by where its parts are loaded: the kernel itself is compressed once more. A command line is
// nobody else's.
func (p *Payload) linux(segments []cbfs.Segment) {
	entry, parameters, initrd := false, false, int64(0)
	for _, s := range segments {
		entry = entry || s.Kind == "ENTR" && s.Load == linuxEntry
		parameters = parameters || s.Load == linuxParameters
		if s.Kind == "DATA" && s.Load >= linuxInitrd && s.Load%linuxInitrd == 0 {
			initrd = s.Memory
		}
	}
	if entry && parameters {
		p.Kind, p.Version, p.Initrd = PayloadLinux, "", initrd
		return
	}
	p.CommandLine = ""
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
