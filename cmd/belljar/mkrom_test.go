package main

import (
	"fmt"
	"os"

	"github.com/belljar/belljar/rom/romtest"
)

// mkromMain makes a small ROM: mkrom coreboot|unmeasured|ovmf FILE.
func mkromMain() {
	block := romtest.Block{Text: "CRTM initialized.\x00FMAP: %s CBFS: %s", Version: "4.15-toy", Vendor: "Emulation", Part: "QEMU x86 q35/ich9"}
	kind, file := os.Args[1], os.Args[2]
	if kind == "unmeasured" {
		block.Text = ""
	}
	banner := []byte("SeaBIOS (version %s)\x00\x001.16.2-toy\x00")
	data := romtest.Coreboot(64<<10, block,
		romtest.File{Name: "fallback/romstage", Type: romtest.Stage, Data: []byte("romstage")},
		romtest.File{Name: "fallback/ramstage", Type: romtest.Stage, Data: []byte("ramstage")},
		romtest.File{Name: "config", Data: []byte("CONFIG_TPM2=y\n")},
		romtest.File{Name: "fallback/payload", Type: romtest.Payload, Data: romtest.Segments(0xfe000,
			romtest.Segment{Kind: "CODE", Load: 0xe0000, Data: banner, Memory: len(banner)})})
	if kind == "ovmf" {
		code := romtest.Volume(romtest.FFS2, 0x10000)
		data = append(romtest.Volume(romtest.NVData, 0x1000), append(code[:len(code)-48], romtest.OVMFEnd()...)...)
	}
	if err := os.WriteFile(file, data, 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
