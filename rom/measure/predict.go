package measure

import (
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/rom"
	"github.com/belljar/belljar/rom/cbfs"
	"github.com/belljar/belljar/rom/fmap"
	"github.com/belljar/belljar/rom/scan"
)

// Prediction is what a ROM's measured boot must come to, when its payload starts.
type Prediction struct {
	Algorithm Algorithm  `json:"algorithm"`
	Events    []Measured `json:"events"`
	PCRs      PCRs       `json:"pcrs"`
	Notes     []string   `json:"notes"` // for each of which a boot may rightly measure more
}

// Measured is an event and the part of the ROM that it measures.
type Measured struct {
	Event
	Offset int64  `json:"offset"` // in the file
	Size   int64  `json:"size"`   // in bytes
	After  Digest `json:"after"`  // the PCR's value when it was extended
}

// srtm is the PCR into which coreboot measures code: TPM_CRTM_PCR, later CONFIG_PCR_SRTM.
const srtm = 2

// Predict predicts what the measured boot of a coreboot ROM extends into the TPM. A ROM of which that cannot be told is an
// input fault that says why.
func Predict(m *rom.Image) (*Prediction, error) {
	p := &predictor{m: m, Prediction: Prediction{Notes: []string{}}}
	if err := p.measured(); err != nil {
		return nil, err
	}
	p.choose()
	if err := p.rootOfTrust(); err != nil {
		return nil, err
	}
	for _, stage := range []string{"romstage", "postcar", "ramstage", "payload"} {
		f := m.Primary().File(rom.Prefix + stage)
		switch {
		case f != nil:
			if err := p.add(p.label(f.Name), f.Data, f.Size); err != nil {
				return nil, err
			}
		case stage != "postcar": // which not every board has
			return nil, bad("CBFS has no %s%s, and its boot ends before it is measured", rom.Prefix, stage).
				WithRemedy("'belljar rom' shows what is in it")
		}
	}
	p.note()
	p.PCRs = Replay(p.Algorithm, p.events()...)
	return &p.Prediction, nil
}

type predictor struct {
	Prediction
	m         *rom.Image
	bootblock *io.SectionReader
	labels    string // what the labels of files begin with
}

func bad(format string, args ...any) *fault.Error {
	return fault.New(fault.Input, "predict PCRs", format, args...)
}

// What the bootblock of a measured boot has among its strings, and the form of its labels until 4.15.
var (
	crtmPattern  = regexp.MustCompile(`CRTM initialized\.`)
	labelPattern = regexp.MustCompile(`FMAP: %s CBFS: %s`)
)

// measured finds out whether the ROM measures its boot at all, and by which names: from the configuration that the build leaves in
// CBFS, else from the bootblock's code.
func (p *predictor) measured() error {
	if p.m.Kind != rom.Coreboot {
		return bad("it is %s, want coreboot: of other firmware, the ROM alone does not tell what it measures", p.m.Kind)
	}
	if p.m.Primary() == nil {
		return bad("it has no CBFS").WithRemedy("'belljar rom' shows what is in it")
	}
	if err := p.findBootblock(); err != nil {
		return err
	}
	if p.config("TPM_MEASURED_BOOT") != "y" {
		_, ok, err := scan.First(p.code(), crtmPattern, 64)
		if err != nil {
			return err
		}
		if !ok {
			return bad("it was built without measured boot: CONFIG_TPM_MEASURED_BOOT=y is not in its 'config', nor its code in its bootblock").
				WithRemedy("build it with CONFIG_TPM2=y and CONFIG_TPM_MEASURED_BOOT=y")
		}
	}
	updated := func(r rom.Region) bool { return strings.HasPrefix(r.Area, "FW_MAIN") }
	if p.config("VBOOT") == "y" || slices.ContainsFunc(p.m.CBFS, updated) {
		return bad("it has vboot, which decides at boot from which area it goes on")
	}
	_, old, err := scan.First(p.code(), labelPattern, 64)
	if old {
		p.labels = "FMAP: " + p.m.CBFS[0].Area + " "
	}
	return err
}

// choose chooses the algorithm: a build has one, by its configuration.
func (p *predictor) choose() {
	p.Algorithm = SHA256
	for _, alg := range slices.Sorted(maps.Keys(algorithms)) {
		if p.config("TPM_HASH_"+string(alg)) == "y" {
			p.Algorithm = alg
		}
	}
	if p.config("TPM1") == "y" {
		p.Algorithm = SHA1
	}
	if p.m.Primary().File("config") == nil {
		p.Notes = append(p.Notes, "its CBFS has no 'config', so it is taken to be built for a TPM 2.0, and SHA-256")
	}
}

// findBootblock finds it where it is measured: in an area of its own, or in CBFS.
func (p *predictor) findBootblock() error {
	if a := p.area("BOOTBLOCK"); a != nil {
		p.bootblock = p.m.Section(a.Offset, a.Size)
		return nil
	}
	f := p.m.Primary().File("bootblock")
	if f == nil {
		return bad("neither its flash map nor its CBFS has a bootblock").WithRemedy("'belljar rom' shows what is in it")
	}
	p.bootblock = f.Raw()
	return nil
}

// code is the bootblock from its beginning.
func (p *predictor) code() io.Reader { return io.NewSectionReader(p.bootblock, 0, p.bootblock.Size()) }

// config is an option of the build's configuration; empty where it is not set or not known.
func (p *predictor) config(option string) string {
	value, _, err := p.m.Config(option)
	if err != nil {
		return ""
	}
	return value
}

func (p *predictor) area(name string) *fmap.Area {
	if p.m.FMAP == nil {
		return nil
	}
	return p.m.FMAP.Area(name)
}

// rootOfTrust is tspi_init_crtm.
func (p *predictor) rootOfTrust() error {
	if a := p.area(fmap.SelfArea); a != nil {
		if err := p.add("FMAP: FMAP", a.Offset, a.Size); err != nil {
			return err
		}
	}
	if a := p.area("BOOTBLOCK"); a != nil {
		return p.add("FMAP: BOOTBLOCK", a.Offset, a.Size)
	}
	f := p.m.Primary().File("bootblock")
	return p.add(p.label(f.Name), f.Data, f.Size)
}

// maxLabel is what fits in an entry of coreboot's log, TCPA_PCR_HASH_NAME without its NUL.
const maxLabel = 49

func (p *predictor) label(file string) string {
	label := p.labels + "CBFS: " + file
	return label[:min(len(label), maxLabel)]
}

// add measures a part of the ROM.
func (p *predictor) add(name string, offset, size int64) error {
	h := algorithms[p.Algorithm]()
	n, err := io.Copy(h, p.m.Section(offset, size))
	if err != nil {
		return fault.New(fault.Host, "read ROM", "%w", err)
	}
	if n < size {
		return bad("%s ends at 0x%x, and the file at 0x%x", name, offset+size, p.m.Size).
			WithRemedy("give the file of a whole ROM")
	}
	e := Event{PCR: srtm, Digest: h.Sum(nil), Name: name}
	p.Events = append(p.Events, Measured{Event: e, Offset: offset, Size: size})
	last := &p.Events[len(p.Events)-1]
	last.After = Replay(p.Algorithm, p.events()...)[srtm]
	return nil
}

func (p *Prediction) events() []Event {
	var all []Event
	for _, e := range p.Events {
		all = append(all, e.Event)
	}
	return all
}

// note tells what else a boot may measure: what a board loads beside its stages, and what payloads do.
func (p *predictor) note() {
	if p.m.Machine == "" {
		p.Notes = append(p.Notes, p.m.Why+": nobody has tried which files of CBFS it loads beside its stages")
	}
	var more []string
	for _, f := range p.m.Primary().Files {
		if p.mayLoad(f) {
			more = append(more, f.Name)
		}
	}
	if len(more) > 0 {
		p.Notes = append(p.Notes, "coreboot may load, and then measures: "+strings.Join(more, ", "))
	}
	if p.m.Payload != nil && p.m.Payload.Kind == rom.PayloadSeaBIOS {
		p.Notes = append(p.Notes, "SeaBIOS extends PCRs too, PCR 2 among them: the values are those at its start")
	}
}

// mayLoad says whether coreboot itself may load a file that is no stage, as no board of QEMU's does. The texts of the build, and
// what payloads look for, it leaves alone; so it does with the layout of the CMOS and with its DSDT where QEMU brings its own tables.
func (p *predictor) mayLoad(f *cbfs.File) bool {
	switch f.Type.String() {
	case "optionrom", "bootsplash", "microcode", "fsp", "mrc", "mma", "spd", "mrc_cache", "struct", "vsa", "mbi":
		return true
	case "cmos_layout":
		use, known, err := p.m.Config("USE_OPTION_TABLE")
		return use == "y" || !known || err != nil
	}
	return f.Name == "vbt.bin" || strings.HasPrefix(f.Name, "pci") || f.Name == rom.Prefix+"dsdt.aml" && p.m.Machine == ""
}
