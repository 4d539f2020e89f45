package vm

import (
	"context"
	"errors"
	"net"
)

// What a person at the machine could do. Backends differ in it, so a Guest is each of these only perhaps.

// Typist is a Guest whose serial console takes input (Machine.Input).
type Typist interface {
	// Type sends bytes to the first serial port, as fast as the guest takes them.
	Type(ctx context.Context, text []byte) error
}

// Keyboard is a Guest whose keyboard can be pressed.
type Keyboard interface {
	// Press presses one key after another. A key is one of QEMU's names (QKeyCode, qapi/ui.json), or several held down
	// together, joined with '-': "ctrl-alt-delete".
	Press(ctx context.Context, keys ...string) error
}

// Viewed is a Guest whose screen, keyboard and mouse can be had over VNC (Machine.VNC).
type Viewed interface {
	// DialScreen connects to the machine's VNC server, as often as asked.
	DialScreen(ctx context.Context) (net.Conn, error)
}

// Buttons is a Guest whose monitor takes a command that a person gives: to press the power button, the reset button.
type Buttons interface {
	// Command runs one of MonitorCommands.
	Command(ctx context.Context, name string) error
}

// MonitorCommands are the commands that Buttons knows (qapi/*.json in QEMU's tree), with what each does. No other is
// let through: QEMU's monitor opens files.
var MonitorCommands = map[string]string{
	"system_powerdown": "presses the power button",
	"system_reset":     "presses the reset button",
	"inject-nmi":       "sends a non-maskable interrupt",
	"stop":             "stops the processors",
	"cont":             "lets them go on",
}

// Measured is a Guest with a TPM that can be asked what was measured into it.
type Measured interface {
	// PCRs are the values of a bank's platform configuration registers as they stand. They can be read until Close, also
	// when the machine has powered itself off. Banks are sha1, sha256, sha384 and sha512; a TPM 1.2 has sha1 alone.
	PCRs(ctx context.Context, bank string) (map[int][]byte, error)
	// Extensions are the digests that were extended into PCRs since the TPM was last started, in order.
	Extensions() []Extension
}

// Extension is one measurement: PCR = H(PCR || Digest).
type Extension struct {
	PCR    int    `json:"pcr"`
	Bank   string `json:"bank"`
	Digest []byte `json:"digest"`
}

// ErrTPMNotStarted says that nothing in the machine has started its TPM (TPM_Startup, TPM2_Startup): firmware that
// measures does that first.
var ErrTPMNotStarted = errors.New("the firmware has not started the TPM")
