package pipeline

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belljar/belljar/image"
	"github.com/belljar/belljar/image/initramfs"
	"github.com/belljar/belljar/specs"
)

// stageInputs are what a stage's identity is made of, in a form in which two can be compared for people. They are
// remembered beside a stage's result: an identity alone cannot say what changed.
type stageInputs struct {
	Recipe   string         // how images are made
	Packages map[string]pin // of the image
	Kernel   pin
	Machine  machineIdentity
	Agent    string // digest
	Sources  map[string]pin
	Env      map[string]string
	Script   string
	Outputs  []string
	Scratch  string            `json:",omitempty"` // where the stage's files lie
	Needs    map[string]string // a stage's name in the build → its identity
}

// pin is something that a lock pins: what people call it, and its bytes.
type pin struct{ Version, Digest string }

func (p pin) String() string {
	if p.Version == "" {
		return short(p.Digest)
	}
	return p.Version
}

func short(digest string) string { return digest[:min(len(digest), 12)] }

func (n *node) inputs() stageInputs {
	p := stageInputs{
		Recipe: image.Version + " " + initramfs.Recipe(), Machine: stageMachine(n.stage, n.guest), Agent: n.agent,
		Packages: map[string]pin{}, Sources: map[string]pin{}, Needs: map[string]string{},
		Env: StageEnv(n.stage, n.guest), Script: n.stage.Script, Outputs: n.stage.Outputs,
		Scratch: n.stage.Scratch,
	}
	for _, lp := range n.locked.Packages {
		if lp.Kernel {
			p.Kernel = pin{lp.Name + " " + lp.Version, lp.SHA256}
		} else {
			p.Packages[lp.Name] = pin{lp.Version, lp.SHA256}
		}
	}
	for _, s := range n.sources() {
		p.Sources[s.Name] = pin{cmp.Or(s.Version, s.Commit), identity(s)}
	}
	for _, need := range n.needs {
		p.Needs[need.name()] = need.id
	}
	return p
}

// InputChange is one part of a stage's identity that is not what it was.
type InputChange struct {
	Part string `json:"part"`           // package, kernel, image, machine, agent, source, env, script, scratch, outputs, needs
	Name string `json:"name,omitempty"` // of the package, field, source, variable or stage
	Old  string `json:"old,omitempty"`  // empty: it was not there
	New  string `json:"new,omitempty"`  // empty: it is not there any more
	Line int    `json:"line,omitempty"` // of a script: the first that differs
	Diff string `json:"diff,omitempty"` // of a script: around that line
}

// String is the change in one line.
func (c InputChange) String() string {
	what := strings.TrimSpace(c.Part + " " + c.Name)
	switch {
	case c.Part == "script":
		return fmt.Sprintf("script: line %d differs", c.Line)
	case c.Part == "needs" && c.Old != "" && c.New != "":
		return "needs " + c.Name + ", which changed"
	case c.Old == c.New:
		return what + " changed: the same version, other contents"
	case c.Old == "":
		return what + " " + c.New + " added"
	case c.New == "":
		return what + " " + c.Old + " removed"
	}
	return what + ": " + c.Old + " → " + c.New
}

// changed lists what differs between what a stage was made of and what it would be made of now.
func (p stageInputs) changed(now stageInputs) []InputChange {
	var all []InputChange
	add := func(part, name, old, new string) {
		if old != new {
			all = append(all, InputChange{Part: part, Name: name, Old: old, New: new})
		}
	}
	all = append(all, changedPins("package", p.Packages, now.Packages)...)
	all = append(all, changedPins("kernel", map[string]pin{"": p.Kernel}, map[string]pin{"": now.Kernel})...)
	add("image", "recipe", p.Recipe, now.Recipe)
	was, is := p.Machine.fields(), now.Machine.fields()
	for _, k := range bothKeys(was, is) {
		add("machine", k, was[k], is[k])
	}
	add("agent", "", short(p.Agent), short(now.Agent))
	all = append(all, changedPins("source", p.Sources, now.Sources)...)
	for _, k := range bothKeys(p.Env, now.Env) {
		add("env", k, p.Env[k], now.Env[k])
	}
	if p.Script != now.Script {
		line, diff := scriptDiff(p.Script, now.Script)
		all = append(all, InputChange{Part: "script", Line: line, Diff: diff})
	}
	add("scratch", "", cmp.Or(p.Scratch, specs.ScratchDisk), cmp.Or(now.Scratch, specs.ScratchDisk))
	add("outputs", "", strings.Join(p.Outputs, " "), strings.Join(now.Outputs, " "))
	for _, k := range bothKeys(p.Needs, now.Needs) {
		add("needs", k, short(p.Needs[k]), short(now.Needs[k]))
	}
	return all
}

// fields are a machine's properties as people name them.
func (m machineIdentity) fields() map[string]string {
	return map[string]string{
		"arch": m.Arch, "type": m.Type, "CPU": m.CPU, "CPUs": strconv.Itoa(m.CPUs), "memory": specs.Size(m.Memory).String(),
		"scratch": specs.Size(m.Scratch).String(), "clock": time.Unix(m.Clock, 0).UTC().Format(time.RFC3339),
		"kernel command line": m.Kernel,
	}
}

func changedPins(part string, was, is map[string]pin) []InputChange {
	var all []InputChange
	text := func(m map[string]pin, name string) string {
		if p, ok := m[name]; ok {
			return p.String()
		}
		return ""
	}
	for _, name := range bothKeys(was, is) {
		if was[name] != is[name] {
			all = append(all, InputChange{Part: part, Name: name, Old: text(was, name), New: text(is, name)})
		}
	}
	return all
}

func bothKeys[V any](a, b map[string]V) []string {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]V{}
	}
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}

// What is shown of a script's change: lines before it, and the most that is shown of what went and what came.
const (
	diffBefore = 2
	diffMost   = 4
)

// scriptDiff finds the first line in which two scripts differ, and shows what is around it as diff -u would.
func scriptDiff(old, new string) (line int, text string) {
	a, b := strings.Split(old, "\n"), strings.Split(new, "\n")
	first := 0
	for first < len(a) && first < len(b) && a[first] == b[first] {
		first++
	}
	tail := 0
	for tail < len(a)-first && tail < len(b)-first && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	var out strings.Builder
	show := func(mark string, lines []string) {
		for i, l := range lines {
			if i == diffMost {
				fmt.Fprintf(&out, "%s… and %d more lines\n", mark, len(lines)-i)
				return
			}
			out.WriteString(mark + l + "\n")
		}
	}
	show(" ", a[max(0, first-diffBefore):first])
	show("-", a[first:len(a)-tail])
	show("+", b[first:len(b)-tail])
	return first + 1, out.String()
}
