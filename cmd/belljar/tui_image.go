package main

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/pipeline"
)

func shortDigest(d string) string { return d[:min(len(d), 12)] }

func (p *printer) imageBuilt(r *pipeline.ImageResult) {
	p.coloured(bold, "image", "  %s", r.Guest)
	p.line("  path       %s", r.Path)
	p.line("  sha256     %s", r.Digest)
	if r.RootHash != "" {
		p.line("  root hash  %s", r.RootHash)
	}
	p.line("  size       %d bytes (%s)", r.Size, bytesText(r.Size))
	p.line("  packages   %d", r.Packages)
	if r.Cached {
		p.line("nothing changed: the image was in the store, and is whole (%s)", took(r.Took))
		return
	}
	p.line("made under %s, run %s", r.Accel, r.Run)
	p.parts(r.Parts, r.Took)
}

// markTexts say what a guest has come to at a mark.
var markTexts = map[string]string{
	pipeline.MarkRunning: "the machine runs",
	pipeline.MarkInit:    "the initramfs says its first line",
	pipeline.MarkRoot:    "the root is laid out",
	pipeline.MarkServing: "sshd is started",
	pipeline.MarkSSH:     "SSH stands",
	pipeline.MarkAgent:   "the agent answers",
}

func (p *printer) imageBooted(r *pipeline.BootResult) {
	p.coloured(bold, "boot", "  %s, under %s, from %s", r.Guest, r.Accel, r.Start)
	for _, m := range r.Marks {
		p.line("  %6.2f s  %s", m.At.Seconds(), markTexts[m.Name])
	}
	p.line("run %s", r.Run)
}

func (p *printer) imageLayered(r *pipeline.LayerResult) {
	p.coloured(bold, "layer", "  %s", r.Guest)
	if r.Path != "" {
		p.line("  path       %s", r.Path)
	}
	p.line("  size       %d bytes (%s)", r.Size, bytesText(r.Size))
	p.line("  packages   %d, of which %d were kept ready to unpack", r.Packages, r.Ready)
	p.line("  took       %s", took(r.Took))
}

func (p *printer) images(images []pipeline.ImageInfo) {
	if len(images) == 0 {
		p.line("no images yet: 'belljar image build SPEC' makes one")
		return
	}
	rows := [][]string{{"IMAGE", "GUEST", "PACKAGES", "SIZE", "USED", "SPECS"}}
	unknown := func(text string, known bool) string {
		if !known {
			return "-"
		}
		return text
	}
	for _, i := range images {
		size := bytesText(i.Size)
		if i.Missing {
			size = "gone"
		}
		rows = append(rows, []string{
			shortDigest(i.Digest), unknown(tidy(i.Guest), i.Guest != ""), unknown(strconv.Itoa(i.Packages), i.Packages > 0),
			size, unknown(i.Used.Local().Format("2006-01-02 15:04:05"), !i.Used.IsZero()),
			unknown(tidy(strings.Join(i.Specs, ", ")), len(i.Specs) > 0),
		})
	}
	p.table(rows)
}

// imageFiles lists files as 'ls -l' does; with whole each by its path, otherwise by its name.
func (p *printer) imageFiles(files []pipeline.ImageFile, whole bool) {
	links, size := 0, 0
	for _, f := range files {
		links, size = max(links, len(strconv.Itoa(f.Links))), max(size, len(sizeOrDevice(f)))
	}
	rows := [][]string{}
	for _, f := range files {
		name := f.Path
		if i := strings.LastIndexByte(name, '/'); !whole && i >= 0 && i < len(name)-1 {
			name = name[i+1:]
		}
		name = tidy(name)
		if f.Target != "" {
			name += " -> " + tidy(f.Target)
		}
		rows = append(rows, []string{
			modeText(f), fmt.Sprintf("%*d", links, f.Links), ownerText(f), fmt.Sprintf("%*s", size, sizeOrDevice(f)),
			f.MTime.Format("2006-01-02 15:04"), name,
		})
	}
	if len(rows) > 0 {
		p.table(rows)
	}
}

func sizeOrDevice(f pipeline.ImageFile) string {
	if f.Device != "" {
		return f.Device
	}
	return strconv.FormatInt(f.Size, 10)
}

func ownerText(f pipeline.ImageFile) string {
	name := func(name string, id uint32) string {
		if name == "" {
			return strconv.FormatUint(uint64(id), 10)
		}
		return tidy(name)
	}
	return name(f.User, f.UID) + ":" + name(f.Group, f.GID)
}

var typeLetters = map[string]byte{
	"file": '-', "folder": 'd', "symlink": 'l', "character device": 'c', "block device": 'b', "fifo": 'p', "socket": 's',
}

// modeText is a mode as 'ls -l' writes it (POSIX, ls).
func modeText(f pipeline.ImageFile) string {
	mode, _ := strconv.ParseUint(f.Mode, 8, 32)
	text := []byte{typeLetters[f.Type]}
	for i, letter := range "rwxrwxrwx" {
		if mode>>(8-i)&1 == 0 {
			letter = '-'
		}
		text = append(text, byte(letter))
	}
	for i, special := range []struct{ with, alone byte }{{'s', 'S'}, {'s', 'S'}, {'t', 'T'}} {
		if at := 3 * (i + 1); mode>>(11-i)&1 == 1 {
			if text[at] == 'x' {
				text[at] = special.with
			} else {
				text[at] = special.alone
			}
		}
	}
	return string(text)
}

func (p *printer) imageReport(r *pipeline.ImageReport) {
	packed := ""
	if r.Packed != "" {
		packed = ", packed by " + r.Packed
	}
	p.coloured(bold, tidy(r.Name), "  %s%s, %s", tidy(r.Format), packed, bytesText(r.Size))
	for _, note := range r.Notes {
		p.coloured(yellow, "note", "   %s", tidy(note))
	}
	if len(r.Partitions) > 0 {
		rows := [][]string{{"  NR", "TYPE", "LABEL", "OFFSET", "SIZE", "HOLDS"}}
		for _, part := range r.Partitions {
			rows = append(rows, []string{
				"  " + strconv.Itoa(part.Number), tidy(part.Type), tidy(part.Label),
				bytesText(part.Offset), bytesText(part.Size), part.FileSystem,
			})
		}
		p.coloured(bold, "partitions", "")
		p.table(rows)
	}
	if r.RootHash != "" {
		p.coloured(bold, "root hash", "  %s", r.RootHash)
	}
	if name := r.OS["PRETTY_NAME"]; name != "" {
		p.coloured(bold, "os", "  %s", tidy(name))
	}
	if len(r.Files) > 0 {
		p.coloured(bold, "files", "")
		for _, kind := range slices.Sorted(maps.Keys(r.Files)) {
			_, what, _ := strings.Cut(plural(r.Files[kind], kind), " ")
			if kind == "file" {
				what += ", " + bytesText(r.Bytes)
			}
			p.line("  %8d  %s", r.Files[kind], what)
		}
	}
	if len(r.SetID) > 0 {
		p.coloured(bold, "set-uid and set-gid", "")
		rows := [][]string{}
		for _, f := range r.SetID {
			rows = append(rows, []string{"  " + modeText(f), ownerText(f), tidy(f.Path), f.Package})
		}
		p.table(rows)
	}
	if len(r.Xattrs) > 0 {
		p.coloured(bold, "extended attributes", "")
		for _, x := range r.Xattrs {
			for _, name := range slices.Sorted(maps.Keys(x.Xattrs)) {
				p.line("  %s  %s: %s", tidy(x.Path), tidy(name), tidy(x.Xattrs[name]))
			}
		}
	}
	p.installed(r.Packages)
	p.deviations(r)
}

// deviations come last, where they are seen.
func (p *printer) deviations(r *pipeline.ImageReport) {
	if !r.Verified {
		return
	}
	if len(r.Deviations) == 0 {
		p.coloured(green, "verified", "  every package is installed, every file of theirs is as it came")
		return
	}
	p.coloured(red, "not as their packages brought them", "  %d", len(r.Deviations))
	for _, d := range r.Deviations {
		p.line("  %s", tidy(d.String()))
	}
}

// installed lists packages; a state is told where it is not what it should be.
func (p *printer) installed(packages []pipeline.ImagePackage) {
	if len(packages) == 0 {
		return
	}
	p.coloured(bold, "packages", "  %d", len(packages))
	rows := [][]string{}
	for _, pkg := range packages {
		state := pkg.State
		if state == "install ok installed" {
			state = ""
		}
		rows = append(rows, []string{"  " + tidy(pkg.Name), tidy(pkg.Version), tidy(pkg.Arch), tidy(state)})
	}
	p.table(rows)
}

// contentWriter takes a file's content. In a pipe it passes bytes as they are; on a terminal it goes line by line, and
// what is no text is refused: a file must not steer the terminal.
func (s *screen) contentWriter() (w *textOnly, flush func()) {
	if _, ok := terminalOf(s.std.out); !ok {
		return &textOnly{pass: s.std.out.Write}, func() {}
	}
	st := s.styleOf(s.std.out)
	lw := &lineWriter{line: func(line string) { fmt.Fprintln(s.std.out, st.plain(tidy(line))) }}
	return &textOnly{pass: lw.Write, strict: true}, lw.flush
}

type textOnly struct {
	pass   func([]byte) (int, error)
	strict bool
}

func (t *textOnly) Write(b []byte) (int, error) {
	if t.strict && bytes.IndexByte(b, 0) >= 0 {
		return 0, fault.New(fault.Usage, "", "the file is no text, and stdout is a terminal").
			WithRemedy("send it to a file or a pipe: … > FILE")
	}
	return t.pass(b)
}
