package qemu

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/tpm"
)

// offer is what a QEMU says of itself.
type offer struct {
	version  string   // 7.2.22
	machines []string // versioned types and aliases
	models   []string // CPU models
}

// Version is the version of the QEMU that would run machines of arch, e.g. 7.2.22.
func (b *Backend) Version(ctx context.Context, arch string) (string, error) {
	binary, err := b.binary(arch)
	if err != nil {
		return "", err
	}
	o, err := b.ask(ctx, binary)
	if err != nil {
		return "", err
	}
	return o.version, nil
}

// Preflight says what this host lacks to run m.
func (b *Backend) Preflight(ctx context.Context, m vm.Machine) error {
	if err := m.Validate(); err != nil {
		return fault.New(fault.Usage, "preflight "+m.Name, "%w", err)
	}
	binary, err := b.binary(m.Arch)
	if err != nil {
		return err
	}
	o, err := b.ask(ctx, binary)
	if err != nil {
		return err
	}
	if err := o.has(m); err != nil {
		return err
	}
	if m.TPM != "" {
		if _, err := tpm.Find(); err != nil {
			return err
		}
	}
	if m.Accel == vm.KVM {
		if reason, remedy := vm.KVMAccess(); reason != "" {
			return fault.New(fault.Host, "preflight "+m.Name, "%s", reason).WithRemedy("%s", remedy)
		}
	}
	return vm.Readable(m)
}

// ask runs QEMU's help options, once for each binary.
func (b *Backend) ask(ctx context.Context, binary string) (*offer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if o, ok := b.offers[binary]; ok {
		return o, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var texts [3]string
	for i, args := range [][]string{{"--version"}, {"-machine", "help"}, {"-cpu", "help"}} {
		cmd := exec.CommandContext(ctx, binary, args...)
		cmd.Env = environment()
		out, err := cmd.CombinedOutput()
		if err != nil {
			return nil, fault.New(fault.Host, "ask qemu", "%s %s: %w", binary, strings.Join(args, " "), err).
				WithEvidence("output", string(out))
		}
		texts[i] = string(out)
	}
	o := &offer{version: parseVersion(texts[0]), machines: parseMachines(texts[1]), models: parseModels(texts[2])}
	if o.version == "" {
		return nil, fault.New(fault.Host, "ask qemu", "%s --version: no version in its answer", binary).
			WithEvidence("output", texts[0])
	}
	if b.offers == nil {
		b.offers = map[string]*offer{}
	}
	b.offers[binary] = o
	return o, nil
}

var versionLine = regexp.MustCompile(`QEMU emulator version ([0-9]+(?:\.[0-9]+)+)`)

func parseVersion(text string) string {
	if m := versionLine.FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return ""
}

// parseMachines reads 'qemu -machine help': a heading, then a type and its description a line.
func parseMachines(text string) []string {
	var all []string
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 1 && !strings.HasSuffix(strings.TrimSpace(line), ":") {
			all = append(all, f[0])
		}
	}
	return all
}

// parseModels reads 'qemu -cpu help': 'x86 MODEL description' a line until an empty one. From QEMU 9.1 on, the
// leading 'x86' is gone and the lines are indented.
func parseModels(text string) []string {
	var all []string
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		switch {
		case len(f) == 0 && len(all) > 0:
			return all
		case len(f) > 1 && f[0] == "x86":
			all = append(all, f[1])
		case len(f) > 0 && strings.HasPrefix(line, "  "):
			all = append(all, f[0])
		}
	}
	return all
}

// has checks the machine type and the CPU model.
func (o *offer) has(m vm.Machine) error {
	if !contains(o.machines, m.Type) {
		return fault.New(fault.Host, "preflight "+m.Name, "QEMU %s does not offer the machine type %s",
			o.version, m.Type).
			WithRemedy("%s", o.typeRemedy(m.Type))
	}
	if !contains(o.models, m.CPU) {
		return fault.New(fault.Host, "preflight "+m.Name, "QEMU %s does not offer the CPU model %s", o.version, m.CPU).
			WithRemedy("%s", o.modelRemedy(m.CPU))
	}
	return nil
}

// typeRemedy: a versioned type is named for the QEMU that brought it, and is dropped after about six years.
func (o *offer) typeRemedy(want string) string {
	family, version := want[:strings.LastIndexByte(want, '-')], want[strings.LastIndexByte(want, '-')+1:]
	if newer(version, o.version) {
		return fmt.Sprintf("%s came with QEMU %s: install that or a later one", want, version)
	}
	var near []string
	for _, t := range o.machines {
		if strings.HasPrefix(t, family+"-") {
			near = append(near, t)
		}
	}
	if len(near) == 0 {
		return "see 'qemu-system-x86_64 -machine help' for the types there are"
	}
	return "this QEMU offers " + strings.Join(near, ", ")
}

func (o *offer) modelRemedy(want string) string {
	base, _, _ := strings.Cut(strings.ToLower(want), "-")
	var near []string
	for _, m := range o.models {
		if strings.HasPrefix(strings.ToLower(m), base) {
			near = append(near, m)
		}
	}
	if len(near) == 0 {
		return "see 'qemu-system-x86_64 -cpu help' for the models there are"
	}
	return "this QEMU offers " + strings.Join(near, ", ")
}

// newer compares the first two numbers of versions.
func newer(a, b string) bool {
	x, y := numbers(a), numbers(b)
	return x[0] > y[0] || x[0] == y[0] && x[1] > y[1]
}

func numbers(v string) (n [2]int) {
	for i, s := range strings.SplitN(v, ".", 3) {
		if i < len(n) {
			n[i], _ = strconv.Atoi(s)
		}
	}
	return n
}

func contains(all []string, s string) bool {
	for _, a := range all {
		if a == s {
			return true
		}
	}
	return false
}
