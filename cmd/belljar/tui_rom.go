package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/belljar/belljar/pipeline"
)

func (p *printer) rom(name string, r *pipeline.ROM) {
	p.coloured(bold, tidy(name), "  %s", tidy(strings.TrimSpace(string(r.Kind)+" "+r.Version)))
	p.line("  size       %d bytes (%s)", r.Size, bytesText(r.Size))
	p.line("  sha256     %s", r.SHA256)
	if r.Mainboard != "" {
		p.line("  mainboard  %s", tidy(r.Mainboard))
	}
	if r.Payload != nil {
		p.payload(r.Payload.Kind, r)
	}
	profile := "none"
	if r.Profile != "" {
		profile = r.Profile
	}
	if r.Machine != "" {
		profile += " on " + r.Machine
	}
	p.line("  profile    %s: %s", profile, tidy(r.Why))
	if r.FMAP != nil {
		p.flashMap(r.FMAP)
	}
	for _, region := range r.CBFS {
		p.cbfs(region)
	}
	p.volumes(r.Volumes)
	if len(r.Problems) > 0 {
		p.coloured(red, "problems", "  %d", len(r.Problems))
		for _, problem := range r.Problems {
			p.line("  %s", tidy(problem))
		}
	}
}

func (p *printer) payload(kind string, r *pipeline.ROM) {
	text := strings.TrimSpace(kind + " " + r.Payload.Version)
	switch {
	case r.Payload.Heads:
		text += ", with Heads as its initrd, " + bytesText(r.Payload.Initrd)
	case r.Payload.Initrd > 0:
		text += ", with an initrd of " + bytesText(r.Payload.Initrd)
	}
	p.line("  payload    %s", tidy(text))
	if r.Payload.CommandLine != "" {
		p.line("  arguments  %s", tidy(r.Payload.CommandLine))
	}
}

func hex(n int64) string { return fmt.Sprintf("0x%x", n) }

func (p *printer) flashMap(m *pipeline.ROMMap) {
	p.coloured(bold, "flash map", "  %s, at %s", tidy(m.Name), hex(m.Offset))
	rows := [][]string{{"  AREA", "OFFSET", "SIZE"}}
	for _, a := range m.Areas {
		rows = append(rows, []string{"  " + tidy(a.Name), hex(a.Offset), hex(a.Size)})
	}
	p.table(rows)
}

func (p *printer) cbfs(r pipeline.ROMRegion) {
	p.coloured(bold, "CBFS", "  %sat %s, %s", tidy(strings.TrimPrefix(r.Area+", ", ", ")), hex(r.Offset), bytesText(r.Size))
	rows := [][]string{{"  FILE", "TYPE", "OFFSET", "SIZE", "COMPRESSION"}}
	for _, f := range r.Files {
		compression := f.Compression.String()
		if f.Unpacked > 0 {
			compression += fmt.Sprintf(", %d unpacked", f.Unpacked)
		}
		rows = append(rows, []string{"  " + tidy(f.Name), f.Type.String(), hex(f.Data), strconv.FormatInt(f.Size, 10), compression})
	}
	p.table(rows)
}

func (p *printer) volumes(volumes []pipeline.ROMVolume) {
	if len(volumes) == 0 {
		return
	}
	p.coloured(bold, "firmware volumes", "")
	rows := [][]string{{"  OFFSET", "SIZE", "HOLDS", "FILE SYSTEM"}}
	for _, v := range volumes {
		holds := v.Holds
		if holds == "" {
			holds = "unknown"
		}
		rows = append(rows, []string{"  " + hex(v.Offset), hex(v.Size), holds, v.FileSystem})
	}
	p.table(rows)
}

func (p *printer) pcrs(name string, r *pipeline.PCRs) {
	p.coloured(bold, tidy(name), "  sha256 %s", r.SHA256)
	for _, e := range r.Events {
		p.line("  PCR-%d %s %s [%s]  0x%x+0x%x", e.PCR, e.Digest, r.Algorithm, tidy(e.Name), e.Offset, e.Size)
	}
	for _, n := range slices.Sorted(maps.Keys(r.PCRs)) {
		p.coloured(bold, fmt.Sprintf("PCR %d", n), "  %s", r.PCRs[n])
	}
	for _, note := range r.Notes {
		p.coloured(yellow, "note", "  %s", tidy(note))
	}
}
