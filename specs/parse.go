package specs

import (
	"maps"
	"reflect"
	"slices"
	"time"
)

// ParseSpec reads a spec. The file's name is for messages; the guests that it names are not looked up: Load does that.
func ParseSpec(file string, data []byte) (*Spec, error) {
	s, _, err := parseSpec(file, data)
	return s, err
}

// parseSpec keeps the document, so that what is found out later can still be pointed at.
func parseSpec(file string, data []byte) (*Spec, checker, error) {
	c := checker{document: &document{file: file, op: "read spec", data: data}}
	s := new(Spec)
	if c.decodeYAML(s) {
		c.spec(s)
	}
	if err := c.err(); err != nil {
		return nil, c, err
	}
	s.setDefaults()
	return s, c, nil
}

// ParseGuest reads a guest spec. The file's name is for messages.
func ParseGuest(file string, data []byte) (*Guest, error) {
	c := checker{document: &document{file: file, op: "read guest spec", data: data}}
	g := new(Guest)
	if c.decodeYAML(g) {
		c.guest(g)
	}
	if err := c.err(); err != nil {
		return nil, err
	}
	g.Clock = g.Clock.UTC()
	return g, nil
}

func (c *checker) decodeYAML(out any) bool {
	if c.root = c.parseYAML(); c.root == nil {
		return false
	}
	c.decode(c.root, "", reflect.ValueOf(out).Elem())
	return len(c.problems) == 0
}

// setDefaults fills in what a spec may leave out, so that leaving out and writing out are the same spec.
func (s *Spec) setDefaults() {
	for i := range s.Stages {
		setDefault(&s.Stages[i].Silence, DefaultStageSilence)
		if s.Stages[i].Scratch == ScratchDisk {
			s.Stages[i].Scratch = ""
		}
	}
	for i := range s.Smoke {
		s.Smoke[i].setDefaults()
	}
}

func (t *Smoke) setDefaults() {
	setDefault(&t.CPU, DefaultSmokeCPU)
	setDefault(&t.Memory, DefaultSmokeMemory)
	setDefault(&t.Console, ConsoleSerial)
	setDefault(&t.Silence, DefaultSmokeSilence)
	setDefault(&t.Timeout, DefaultSmokeTimeout)
}

func setDefault[T comparable](field *T, value T) {
	if *field == *new(T) {
		*field = value
	}
}

// What a spec that says nothing gets.
const (
	DefaultStageSilence = Duration(30 * time.Minute)
	DefaultSmokeCPU     = "qemu64-v1"
	DefaultSmokeMemory  = 256 * MiB
	DefaultSmokeSilence = Duration(20 * time.Second)
	DefaultSmokeTimeout = Duration(2 * time.Minute)
)

// The architectures of a guest, as QEMU and uname -m name them.
const (
	ArchX86_64 = "x86_64"
	ArchI686   = "i686"
)

// The consoles that a smoke test can read.
const (
	ConsoleSerial   = "serial"
	ConsoleDebugcon = "debugcon"
)

// The versions of a TPM.
const (
	TPM20 = "2.0"
	TPM12 = "1.2"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
