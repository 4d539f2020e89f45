package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/belljar/belljar/pipeline"
)

func TestExportedTellsHowToBoot(t *testing.T) {
	for arch, want := range map[string]string{
		"x86_64": "qemu-system-x86_64 -machine q35 -m 2G" +
			" -drive if=pflash,format=raw,file=/usr/share/OVMF/OVMF_CODE_4M.fd,readonly=on",
		"i686": "qemu-system-i386 -machine q35,smm=on -global driver=cfi.pflash01,property=secure,value=on -m 2G" +
			" -drive if=pflash,format=raw,file=/usr/share/OVMF/OVMF32_CODE_4M.secboot.fd,readonly=on" +
			" -drive if=pflash,format=raw,file=/usr/share/OVMF/OVMF32_VARS_4M.fd,snapshot=on",
	} {
		t.Run(arch, func(t *testing.T) {
			var b bytes.Buffer
			(&printer{w: &b}).exported(&pipeline.ExportResult{
				Path: "x.raw", Format: pipeline.FormatRaw, SHA256: "cafe", RootHash: "beef", Size: 3 << 20, OnDisk: 1 << 20,
				Boots: true, Arch: arch, Kernel: "6.1.0-50", Took: 2300 * time.Millisecond,
			})
			out := `raw  x.raw
  sha256     cafe
  root hash  beef
  size       3145728 bytes (3 MiB), of which 1 MiB take room on this disk
  kernel     6.1.0-50
  took       2.3s
boot it: ` + want + " -drive file=x.raw,format=raw,snapshot=on -nographic\n"
			if b.String() != out {
				t.Errorf("it says\n%swant\n%s", b.String(), out)
			}
		})
	}
}
