package smoke

import "fmt"

// assembler collects x86 code, one instruction a call, with the instruction's text beside its bytes.
// It knows labels and short jumps and nothing more: mnemonics are for the reader, the bytes are what counts.
type assembler struct {
	code   []byte
	labels map[string]int
	jumps  []jump
}

type jump struct {
	at    int // of the displacement byte
	label string
}

// op adds an instruction as Intel's manual (vol. 2) encodes it.
func (a *assembler) op(text string, code ...byte) { a.code = append(a.code, code...) }

// label names the address of the next instruction.
func (a *assembler) label(name string) {
	if a.labels == nil {
		a.labels = map[string]int{}
	}
	a.labels[name] = len(a.code)
}

// short adds a jump with an 8-bit displacement, counted from the next instruction.
func (a *assembler) short(text string, opcode byte, label string) {
	a.code = append(a.code, opcode, 0)
	a.jumps = append(a.jumps, jump{len(a.code) - 1, label})
}

// bytes puts the displacements in. A label that is missing or too far is a defect of the program's text.
func (a *assembler) bytes() []byte {
	for _, j := range a.jumps {
		to, known := a.labels[j.label]
		d := to - (j.at + 1)
		if !known || d < -128 || d > 127 {
			panic(fmt.Sprintf("short jump to %q: known %v, displacement %d", j.label, known, d))
		}
		a.code[j.at] = byte(int8(d))
	}
	return a.code
}

// lo and hi are the bytes of a 16-bit operand, low one first in the code.
func lo(v int) byte { return byte(v) }
func hi(v int) byte { return byte(v >> 8) }
