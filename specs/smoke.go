package specs

// The language of smoke tests. Its docstrings are the language's reference, as those in spec.go are.

// Smoke is one boot of an artifact in a fresh machine, and what it must show: `expect`, the short form, or `steps`.
type Smoke struct {
	// The test's name.
	Name string `yaml:"name" json:"name"`
	// The artifact that is booted, as the machine's firmware.
	Artifact string `yaml:"artifact" json:"artifact"`
	// Another artifact, the variables of a UEFI: then the first is booted from a flash chip that cannot be written, and a copy of
	// this one lies in a second.
	Vars string `yaml:"vars,omitempty" json:"vars,omitempty"`
	// QEMU's machine type, with its version: `pc-q35-6.2`.
	Machine string `yaml:"machine" json:"machine"`
	// QEMU's CPU model, with its version.
	CPU string `yaml:"cpu,omitempty" json:"cpu,omitempty"`
	// The machine's memory.
	Memory Size `yaml:"memory,omitempty" json:"memory,omitempty"`
	// What is read: `serial`, the first serial port, or `debugcon`, the ISA debug console at port 0x402.
	Console string `yaml:"console,omitempty" json:"console,omitempty"`
	// Attach Belljar's test disk, which prints `BELLJAR TEST DISK BOOTED`: its boot sector, and the UEFI application in its EFI
	// system partition, which then powers the machine off.
	Disk bool `yaml:"disk,omitempty" json:"disk,omitempty"`
	// Give the machine a TPM of that version, `"2.0"` or `"1.2"`: emulated, and fresh for each test.
	TPM string `yaml:"tpm,omitempty" json:"tpm,omitempty"`
	// Give the machine no VGA, for firmware that is better off without: it runs what it finds on the card.
	Headless bool `yaml:"headless,omitempty" json:"headless,omitempty"`
	// Regular expressions (RE2), in order: each must match a line after the one that the expression before it matched.
	Expect []string `yaml:"expect,omitempty" json:"expect,omitempty"`
	// What is waited for, done and looked at, in order.
	Steps []Step `yaml:"steps,omitempty" json:"steps,omitempty"`
	// Regular expressions (RE2) for lines that fail the test at once, on whichever console is read.
	Forbid []string `yaml:"forbid,omitempty" json:"forbid,omitempty"`
	// The longest time without a byte on the console, at the pace of KVM.
	Silence Duration `yaml:"silence,omitempty" json:"silence,omitempty"`
	// The longest wall time, at the pace of KVM.
	Timeout Duration `yaml:"timeout,omitempty" json:"timeout,omitempty"`
	// How long what is forbidden, a reset and a panic must stay away after the last step; left out, one second.
	Settle Duration `yaml:"settle,omitempty" json:"settle,omitempty"`
}

// Step is one thing of a smoke test that is waited for, done or looked at. It has exactly one of `expect`, `text`, `send`,
// `press`, `reboot`, `power-off`, `screenshot`, `pcr`, `eventlog` and `qmp`.
type Step struct {
	// Wait for a line that this regular expression (RE2) matches. It is a later line than the one that met a step before.
	Expect string `yaml:"expect,omitempty" json:"expect,omitempty"`
	// Wait for a line that holds this text.
	Text string `yaml:"text,omitempty" json:"text,omitempty"`
	// Type this on the first serial port: `"version\\n"`. In double quotes, `\\r` is Enter, `\\e` Escape.
	Send string `yaml:"send,omitempty" json:"send,omitempty"`
	// Press these keys on the keyboard, by QEMU's names for them, several at once joined with `-`: `[esc, ctrl-alt-delete]`.
	Press []string `yaml:"press,omitempty" json:"press,omitempty"`
	// Wait until the machine resets itself. A reset that no step waits for fails the test.
	Reboot bool `yaml:"reboot,omitempty" json:"reboot,omitempty"`
	// Wait until the machine powers itself off.
	PowerOff bool `yaml:"power-off,omitempty" json:"power-off,omitempty"`
	// Take a picture of the screen, `NAME.png` in the run's folder.
	Screenshot string `yaml:"screenshot,omitempty" json:"screenshot,omitempty"`
	// Compare a PCR of the TPM, as it is now, with a golden value.
	PCR *PCR `yaml:"pcr,omitempty" json:"pcr,omitempty"`
	// Compare what was measured into a PCR so far, digest by digest.
	EventLog *EventLog `yaml:"eventlog,omitempty" json:"eventlog,omitempty"`
	// Give QEMU's monitor a command: `system_powerdown` and `system_reset` (the buttons), `inject-nmi`, `stop`, `cont`.
	QMP string `yaml:"qmp,omitempty" json:"qmp,omitempty"`
	// With `expect` and `text`: `serial` or `debugcon`, where it is not the test's console.
	On string `yaml:"on,omitempty" json:"on,omitempty"`
	// The longest wall time since the step before, at the pace of KVM; left out, only the test's `timeout` counts.
	Within Duration `yaml:"within,omitempty" json:"within,omitempty"`
	// The step is one of a test with that only: `test-disk`, for which see `disk`.
	With string `yaml:"with,omitempty" json:"with,omitempty"`
	// What the step proves, for people. It stands in the verdict.
	Note string `yaml:"note,omitempty" json:"note,omitempty"`
}

// PCR is a platform configuration register of a TPM, and what it must hold.
type PCR struct {
	// The bank: `sha1`, `sha256`, `sha384` or `sha512`. A TPM 1.2 has `sha1` alone.
	Bank string `yaml:"bank" json:"bank"`
	// The register, 0 to 23.
	Index int `yaml:"index" json:"index"`
	// Its golden value, in hex. Left out, any value will do, and stands in the verdict.
	Value string `yaml:"value,omitempty" json:"value,omitempty"`
}

// EventLog is all that must have been measured into a PCR since the machine was started, in order. It is heard at the TPM, not
// read from the firmware's own log.
type EventLog struct {
	// The bank, as of a PCR.
	Bank string `yaml:"bank" json:"bank"`
	// The register.
	Index int `yaml:"index" json:"index"`
	// The measurements.
	Events []Measurement `yaml:"events" json:"events"`
}

// Measurement is a digest that is extended into a PCR.
type Measurement struct {
	// What is measured, for people: `romstage`.
	Name string `yaml:"name,omitempty" json:"name,omitempty"`
	// Its digest in the bank's algorithm, in hex.
	Digest string `yaml:"digest" json:"digest"`
}

// Profile says how firmware of a kind boots and how one knows that it did: a smoke test without a ROM, which `belljar smoke`
// gives to whatever ROM it is handed. It is a file of its own.
type Profile struct {
	// The profile's name.
	Name string `yaml:"name" json:"name"`
	// What it is for, for people.
	Description string `yaml:"description,omitempty" json:"description,omitempty"`
	// QEMU's machine type, with its version.
	Machine string `yaml:"machine" json:"machine"`
	// QEMU's CPU model, with its version.
	CPU string `yaml:"cpu,omitempty" json:"cpu,omitempty"`
	// The machine's memory.
	Memory Size `yaml:"memory,omitempty" json:"memory,omitempty"`
	// What is read: `serial` or `debugcon`.
	Console string `yaml:"console,omitempty" json:"console,omitempty"`
	// Boot from a flash chip, with a copy of the UEFI variables in a second, if there are any to be found: see `--vars`.
	Flash bool `yaml:"flash,omitempty" json:"flash,omitempty"`
	// Attach Belljar's test disk, unless another one is given.
	Disk bool `yaml:"disk,omitempty" json:"disk,omitempty"`
	// Give the machine a TPM of that version.
	TPM string `yaml:"tpm,omitempty" json:"tpm,omitempty"`
	// As of a smoke test.
	Headless bool `yaml:"headless,omitempty" json:"headless,omitempty"`
	// As of a smoke test.
	Expect []string `yaml:"expect,omitempty" json:"expect,omitempty"`
	// As of a smoke test.
	Steps []Step `yaml:"steps,omitempty" json:"steps,omitempty"`
	// As of a smoke test.
	Forbid []string `yaml:"forbid,omitempty" json:"forbid,omitempty"`
	// As of a smoke test.
	Silence Duration `yaml:"silence,omitempty" json:"silence,omitempty"`
	// As of a smoke test.
	Timeout Duration `yaml:"timeout,omitempty" json:"timeout,omitempty"`
	// As of a smoke test.
	Settle Duration `yaml:"settle,omitempty" json:"settle,omitempty"`
}

// Test is the profile as the smoke test of a ROM, whatever it is called.
func (p *Profile) Test(artifact string) Smoke {
	t := Smoke{
		Name: p.Name, Artifact: artifact, Machine: p.Machine, CPU: p.CPU, Memory: p.Memory, Console: p.Console, Disk: p.Disk, TPM: p.TPM,
		Headless: p.Headless, Expect: p.Expect, Steps: p.Steps, Forbid: p.Forbid, Silence: p.Silence, Timeout: p.Timeout, Settle: p.Settle,
	}
	t.setDefaults()
	return t
}
