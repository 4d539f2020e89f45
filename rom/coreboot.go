package rom

import (
	"io"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/rom/cbfs"
	"github.com/belljar/belljar/rom/fmap"
)

// primaryAreas are the areas that hold a CBFS, the one that coreboot boots from first: src/lib/cbfs.c (COREBOOT), and those of
// vboot and of payloads.
var primaryAreas = []string{"COREBOOT", "FW_MAIN_A", "FW_MAIN_B", "RW_LEGACY"}

// coreboot takes a file with a CBFS for coreboot: in the areas of its flash map, or, before coreboot had one, where the master
// header says.
func (m *Image) coreboot() (bool, error) {
	flash, err := fmap.Find(m.rom, m.Size)
	if err != nil && fault.KindOf(err) != fault.Input {
		return false, err
	}
	if err != nil { // of no use, and perhaps no map at all: whether it matters depends on what else is here
		defer func(err error) {
			if m.Kind == Coreboot {
				m.problem("it has no sound flash map where the signature of one is: %v", err)
			}
		}(err)
	}
	if m.FMAP = flash; flash != nil {
		err = m.mapped(flash)
	} else {
		err = m.headed()
	}
	if err != nil || flash == nil && len(m.CBFS) == 0 {
		return false, err
	}
	m.Kind = Coreboot
	if err := m.identify(); err != nil {
		return false, err
	}
	if err := m.contents(); err != nil {
		return false, err
	}
	m.proposeCoreboot()
	return true, nil
}

// mapped reads the CBFS of each area that has one.
func (m *Image) mapped(flash *fmap.Map) error {
	if flash.Size != m.Size {
		m.problem("its flash map is of a ROM of %d bytes, and the file has %d", flash.Size, m.Size)
	}
	for _, name := range primaryAreas {
		area := flash.Area(name)
		if area == nil || area.Offset >= m.Size {
			continue
		}
		if area.Offset+area.Size > m.Size {
			m.problem("area %s ends at 0x%x, and the file at 0x%x", name, area.Offset+area.Size, m.Size)
		}
		if err := m.archive(name, area.Offset, min(area.Size, m.Size-area.Offset)); err != nil {
			return err
		}
	}
	if len(m.CBFS) == 0 || m.CBFS[0].Area != "COREBOOT" {
		m.problem("its flash map has no area COREBOOT within the file, and coreboot boots from there")
	}
	return nil
}

func (m *Image) headed() error {
	offset, size, ok, err := cbfs.MasterHeader(m.rom, m.Size)
	if !ok || err != nil {
		return err
	}
	return m.archive("", offset, size)
}

func (m *Image) archive(area string, offset, size int64) error {
	a, err := cbfs.Read(m.rom, offset, size)
	if err != nil {
		return err
	}
	if area != primaryAreas[0] && area != "" && len(a.Files) == 0 {
		return nil // room for an update that nobody made
	}
	m.CBFS = append(m.CBFS, Region{area, a})
	for _, p := range a.Problems {
		m.problem("CBFS: %s", p)
	}
	return nil
}

// Prefix is the folder of coreboot's stages in CBFS.
const Prefix = "fallback/"

// contents checks that all is there, and whole, that coreboot loads on its way to the payload.
func (m *Image) contents() error {
	primary := m.Primary()
	if primary == nil {
		return nil
	}
	for _, need := range []struct{ name, says string }{
		{"romstage", "Couldn't load romstage."}, {"ramstage", "Ramstage was not loaded!"}, {"payload", "Payload not loaded."},
	} {
		if primary.File(Prefix+need.name) == nil {
			m.problem("CBFS has no %s%s: coreboot stops with '%s'", Prefix, need.name, need.says)
		}
	}
	for _, f := range primary.Files {
		ok, err := f.Check()
		if err != nil {
			return err
		}
		if !ok {
			m.problem("CBFS: at 0x%x: the data of %s is not what its %s says", f.Data, f.Name, f.Hash.Algorithm)
		}
		if f.Compression == cbfs.None {
			continue
		}
		n, err := unpacked(f.Open)
		if err == nil && n != f.Unpacked {
			err = fault.New(fault.Input, "read CBFS", "at 0x%x: %s unpacks to %d bytes, want %d", f.Data, f.Name, n, f.Unpacked)
		}
		if err := m.damage(err); err != nil {
			return err
		}
	}
	return m.payload()
}

// damage makes a problem of an input fault.
func (m *Image) damage(err error) error {
	if err == nil || fault.KindOf(err) != fault.Input {
		return err
	}
	m.problem("%v", err)
	return nil
}

// unpacked reads through a decompression, and says to how many bytes it came.
func unpacked(open func() (io.Reader, error)) (int64, error) {
	r, err := open()
	if err != nil {
		return 0, err
	}
	return io.Copy(io.Discard, r)
}
