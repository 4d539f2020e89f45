package rom

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/rom/cbfs"
	"github.com/belljar/belljar/rom/fmap"
	"github.com/belljar/belljar/rom/uefi"
)

// Kind is whose firmware a ROM is.
type Kind string

// The kinds.
const (
	Coreboot  Kind = "coreboot"
	UEFI      Kind = "uefi"
	SeaBIOS   Kind = "seabios"
	UBoot     Kind = "u-boot"
	OptionROM Kind = "option ROM" // of a card, not a machine's firmware
	Unknown   Kind = "unknown"
)

// Image is a ROM file and what it is.
type Image struct {
	Kind      Kind          `json:"kind"`
	Version   string        `json:"version,omitempty"`
	Mainboard string        `json:"mainboard,omitempty"` // of coreboot: vendor and part
	Size      int64         `json:"size"`                // in bytes
	SHA256    string        `json:"sha256"`
	Payload   *Payload      `json:"payload,omitempty"` // of coreboot
	FMAP      *fmap.Map     `json:"fmap,omitempty"`
	CBFS      []Region      `json:"cbfs,omitempty"` // the primary one first
	Volumes   []uefi.Volume `json:"volumes,omitempty"`

	Profile string `json:"profile,omitempty"` // by which it may be smoke-tested; empty where it cannot boot by itself
	Machine string `json:"machine,omitempty"` // QEMU's, on which it may boot; empty where no machine of QEMU is it
	Why     string `json:"why"`               // why these, or why none

	Problems []string `json:"problems"` // for each of which it may not boot

	rom io.ReaderAt
}

// Region is a CBFS and the area of the flash map in which it lies; without a map there is no name.
type Region struct {
	Area string `json:"area,omitempty"`
	*cbfs.Archive
}

const (
	smallest = 512       // an option ROM's unit
	largest  = 256 << 20 // the largest SPI flash chips of the field hold as much
)

// Open says what a file of size bytes is. What is wrong with it is told among its problems, as far as it can be a ROM at all.
func Open(r io.ReaderAt, size int64) (*Image, error) {
	if size < smallest || size > largest {
		return nil, fault.New(fault.Input, "read ROM", "it has %d bytes, want from %d to %d", size, smallest, largest).
			WithRemedy("give the file of a whole ROM, as it is written to a flash chip")
	}
	m := &Image{Size: size, Problems: []string{}, rom: r}
	sum := sha256.New()
	if n, err := io.Copy(sum, m.all()); err != nil || n < size {
		return nil, fault.New(fault.Host, "read ROM", "%w", shortRead(err))
	}
	m.SHA256 = hex.EncodeToString(sum.Sum(nil))
	for _, look := range []func(*Image) (bool, error){
		(*Image).coreboot, (*Image).uefi, (*Image).optionROM, (*Image).seabios, (*Image).uboot, (*Image).unknown,
	} {
		ok, err := look(m)
		if err != nil {
			return nil, fault.New(fault.KindOf(err), "read ROM", "%w", err)
		}
		if ok {
			break
		}
	}
	return m, m.sanity()
}

// shortRead is the error of a read that came short.
func shortRead(err error) error {
	if err == nil {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Primary is the CBFS that coreboot boots from, nil where there is none.
func (m *Image) Primary() *cbfs.Archive {
	if len(m.CBFS) == 0 {
		return nil
	}
	return m.CBFS[0].Archive
}

// Section is a part of the file.
func (m *Image) Section(offset, size int64) *io.SectionReader {
	return io.NewSectionReader(m.rom, offset, size)
}

func (m *Image) all() *io.SectionReader { return m.Section(0, m.Size) }

// problem tells of one, once: what is damaged may be read more than once.
func (m *Image) problem(format string, args ...any) {
	if p := fmt.Sprintf(format, args...); !slices.Contains(m.Problems, p) {
		m.Problems = append(m.Problems, p)
	}
}
