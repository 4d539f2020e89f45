package pipeline

import (
	"errors"
	"io/fs"
	"os"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/rom"
	"github.com/belljar/belljar/rom/cbfs"
	"github.com/belljar/belljar/rom/fmap"
	"github.com/belljar/belljar/rom/measure"
	"github.com/belljar/belljar/rom/uefi"
)

// What the commands show is what package rom found. The command line knows it through these names.
type (
	// ROM is a ROM file and what it is.
	ROM = rom.Image
	// ROMMap is a flash map.
	ROMMap = fmap.Map
	// ROMRegion is a CBFS.
	ROMRegion = rom.Region
	// ROMFile is a file of a CBFS.
	ROMFile = cbfs.File
	// ROMVolume is a firmware volume.
	ROMVolume = uefi.Volume
)

// PCRs is what a ROM's measured boot must leave in a TPM.
type PCRs struct {
	SHA256 string `json:"sha256"` // of the ROM's file
	*measure.Prediction
}

// LookAtROM says what a ROM file is.
func LookAtROM(path string) (*ROM, error) {
	var found *ROM
	err := withROM(path, func(m *ROM) error { found = m; return nil })
	return found, err
}

// PredictPCRs predicts what the measured boot of a ROM file extends into a TPM.
func PredictPCRs(path string) (*PCRs, error) {
	var found *PCRs
	err := withROM(path, func(m *ROM) error {
		p, err := measure.Predict(m)
		found = &PCRs{m.SHA256, p}
		return err
	})
	return found, err
}

// withROM opens a ROM's file for as long as do takes.
func withROM(path string, do func(*ROM) error) error {
	op := "ROM " + path
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.Input, op, "there is no such file").
			WithRemedy("name the file of a ROM, as a build or a download left it")
	case err != nil:
		return fault.New(fault.Host, op, "%w", errors.Unwrap(err))
	case !info.Mode().IsRegular():
		return fault.New(fault.Input, op, "it is a %s, want a file", fileKind(info.Mode()))
	}
	f, err := os.Open(path)
	if err != nil {
		return fault.New(fault.Host, op, "%w", errors.Unwrap(err))
	}
	defer f.Close()
	m, err := rom.Open(f, info.Size())
	if err == nil {
		err = do(m)
	}
	if err != nil {
		return fault.New(fault.KindOf(err), op, "%w", err)
	}
	return nil
}

func fileKind(mode fs.FileMode) string {
	if mode.IsDir() {
		return "folder"
	}
	return "device, pipe or socket"
}
