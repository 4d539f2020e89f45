package rom

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"strings"

	"github.com/belljar/belljar/fault"
)

// identify reads version and mainboard: from the end of the bootblock, else from the text that the build leaves in CBFS.
func (m *Image) identify() error {
	// src/arch/x86/id.S: three strings, the distances of each from the end of the address space, and the ROM's size. They
	// end before the reset vector, or, in ROMs with a pointer to Intel's FIT, 128 bytes before the end.
	for _, end := range []int64{m.Size - resetVector, m.Size - 128} {
		tail := make([]byte, 512)
		if end < int64(len(tail)) {
			return nil
		}
		if n, err := m.rom.ReadAt(tail, end-int64(len(tail))); n < len(tail) {
			return err
		}
		le := binary.LittleEndian
		numbers := tail[len(tail)-16:]
		var texts []string
		for i := range 3 {
			at := m.Size - int64(le.Uint32(numbers[4*i:])) - (end - int64(len(tail)))
			if at < 0 || at >= int64(len(tail))-16 {
				break
			}
			text, _, ended := bytes.Cut(tail[at:len(tail)-16], []byte{0})
			if ended && printable(text) {
				texts = append(texts, string(text))
			}
		}
		if len(texts) == 3 {
			m.Version, m.Mainboard = texts[0], strings.TrimSpace(texts[1]+" "+texts[2])
			return nil
		}
	}
	info, err := m.Text("build_info")
	m.Version = value(info, "COREBOOT_VERSION")
	m.Mainboard = strings.TrimSpace(value(info, "MAINBOARD_VENDOR") + " " + value(info, "MAINBOARD_PART_NUMBER"))
	return err
}

func printable(text []byte) bool {
	return len(text) > 0 && !slices.ContainsFunc(text, func(c byte) bool { return c < ' ' || c > '~' })
}

// value is what a line 'NAME: value' of build_info says.
func value(info, name string) string {
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(line, name+": "); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// maxText is more than the texts of a build have.
const maxText = 256 << 10

// Text is a text of the primary CBFS, as 'config' and 'build_info' are; empty where it is not there or cannot be read.
func (m *Image) Text(name string) (string, error) {
	if len(m.CBFS) == 0 {
		return "", nil
	}
	f := m.Primary().File(name)
	if f == nil {
		return "", nil
	}
	r, err := f.Open()
	var text []byte
	if err == nil {
		text, err = io.ReadAll(io.LimitReader(r, maxText))
	}
	if err != nil && fault.KindOf(err) != fault.Input {
		return "", err
	}
	return string(text), nil
}

// Config is whether the file 'config', which coreboot's build leaves in CBFS, sets an option; known is whether there is one.
func (m *Image) Config(option string) (value string, known bool, err error) {
	config, err := m.Text("config")
	if config == "" || err != nil {
		return "", false, err
	}
	for line := range strings.Lines(config) {
		if v, ok := strings.CutPrefix(line, "CONFIG_"+option+"="); ok {
			return strings.Trim(strings.TrimSpace(v), `"`), true, nil
		}
	}
	return "", true, nil
}
