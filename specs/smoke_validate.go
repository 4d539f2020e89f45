package specs

import (
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode/utf8"
)

// consoles are the values of Smoke.Console and Step.On.
var consoles = []string{ConsoleSerial, ConsoleDebugcon}

// The versions of a TPM, the banks of its PCRs with the length of their digests in bytes, and how many PCRs a PC's TPM has.
var (
	tpms  = []string{TPM20, TPM12}
	banks = map[string]int{"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64}
)

const pcrCount = 24

// WithTestDisk is the one value of Step.With.
const WithTestDisk = "test-disk"

// monitorCommands are the values of Step.QMP.
var monitorCommands = []string{"system_powerdown", "system_reset", "inject-nmi", "stop", "cont"}

// keySyntax is that of an element of Step.Press: QKeyCodes (qapi/ui.json in QEMU's tree), joined.
var keySyntax = regexp.MustCompile(`^[a-z0-9_]+(-[a-z0-9_]+)*$`)

func (c checker) smokes(s *Spec) {
	var artifacts []string
	for _, a := range s.Artifacts {
		artifacts = append(artifacts, a.Name)
	}
	seen := map[string]bool{}
	for i, t := range s.Smoke {
		c.name(at("smoke", i, "name"), t.Name)
		c.unique(at("smoke", i, "name"), t.Name, seen)
		c.artifact(at("smoke", i, "artifact"), t.Artifact, artifacts)
		if c.root.get("smoke", i, "vars") != nil {
			c.artifact(at("smoke", i, "vars"), t.Vars, artifacts)
		}
		c.smoke(at("smoke", i), t)
	}
}

func (c checker) artifact(path []any, name string, artifacts []string) {
	if !slices.Contains(artifacts, name) {
		c.fail(path, "there is no artifact %q%s", name, suggest(name, artifacts))
	}
}

// smoke checks what a smoke test and a profile have in common.
func (c checker) smoke(path []any, t Smoke) {
	in := func(more ...any) []any { return append(slices.Clip(path), more...) }
	has := func(key string) bool { return c.root.get(in(key)...) != nil }
	c.machine(in("machine"), t.Machine)
	if has("cpu") {
		c.cpu(in("cpu"), t.CPU)
	}
	if has("memory") {
		c.size(in("memory"), t.Memory, MiB)
	}
	if has("console") && !slices.Contains(consoles, t.Console) {
		c.fail(in("console"), "there is no console %q%s", t.Console, suggest(t.Console, consoles))
	}
	if has("tpm") && !slices.Contains(tpms, t.TPM) {
		c.fail(in("tpm"), "there is no TPM %q%s", t.TPM, suggest(t.TPM, tpms))
	}
	c.patterns(in("expect"), t.Expect)
	c.patterns(in("forbid"), t.Forbid)
	proof := len(t.Expect) > 0
	for i, s := range t.Steps {
		c.step(in("steps", i), s, t)
		proof = proof || s.Expect != "" || s.Text != "" || s.Reboot || s.PowerOff
	}
	switch {
	case len(t.Expect) > 0 && len(t.Steps) > 0:
		c.fail(in("expect"), "a test has expect or steps, not both: write each expectation as a step")
	case !proof && has("steps"):
		c.fail(in("steps"), "no step waits for anything: a boot that shows nothing proves nothing")
	case !proof:
		c.fail(in("expect"), "nothing is expected: a boot that shows nothing proves nothing")
	}
}

// stepKinds are the keys of which a step has exactly one.
var stepKinds = []string{"expect", "text", "send", "press", "reboot", "power-off", "screenshot", "pcr", "eventlog", "qmp"}

// step checks one step of the test t.
func (c checker) step(path []any, s Step, t Smoke) {
	in := func(more ...any) []any { return append(slices.Clip(path), more...) }
	var kinds []string
	for _, kind := range stepKinds {
		if c.root.get(in(kind)...) != nil {
			kinds = append(kinds, kind)
		}
	}
	if len(kinds) != 1 {
		c.fail(path, "a step is one of %s, and this one is %s", strings.Join(stepKinds, ", "), orNone(kinds))
		return
	}
	if c.root.get(in("on")...) != nil {
		switch {
		case kinds[0] != "expect" && kinds[0] != "text":
			c.fail(in("on"), "on belongs to expect and text")
		case !slices.Contains(consoles, s.On):
			c.fail(in("on"), "there is no console %q%s", s.On, suggest(s.On, consoles))
		}
	}
	if c.root.get(in("with")...) != nil && s.With != WithTestDisk {
		c.fail(in("with"), "there is no %q%s", s.With, suggest(s.With, []string{WithTestDisk}))
	}
	if t.TPM == "" && (s.PCR != nil || s.EventLog != nil) {
		c.fail(in(kinds[0]), "the machine has no TPM: add tpm: \"2.0\" to the test")
	}
	if t.Headless && s.Screenshot != "" {
		c.fail(in(kinds[0]), "the machine has no screen: leave headless out of the test")
	}
	c.stepValue(in(kinds[0]), s)
}

func orNone(kinds []string) string {
	if len(kinds) == 0 {
		return "none"
	}
	return strings.Join(kinds, " and ")
}

// stepValue checks the value of the key that says what a step is.
func (c checker) stepValue(path []any, s Step) {
	switch key := path[len(path)-1]; key {
	case "expect":
		c.pattern(path, s.Expect)
	case "text", "send":
		if s.Text+s.Send == "" {
			c.fail(path, "it is empty")
		}
	case "press":
		if len(s.Press) == 0 {
			c.fail(path, "no key")
		}
		for i, k := range s.Press {
			c.match(append(slices.Clip(path), i), k, keySyntax, "a key of QEMU's or several joined with '-', like esc or ctrl-alt-delete")
		}
	case "reboot", "power-off":
		if !s.Reboot && !s.PowerOff {
			c.fail(path, "false says nothing: leave the step out; a %s that no step waits for fails the test anyway", key)
		}
	case "screenshot":
		c.match(path, s.Screenshot, nameSyntax, "a name: lower-case letters, digits and ._+-")
	case "pcr":
		c.register(path, s.PCR.Bank, s.PCR.Index)
		if s.PCR.Value != "" || c.root.get(append(slices.Clip(path), "value")...) != nil {
			c.digest(append(slices.Clip(path), "value"), s.PCR.Bank, s.PCR.Value)
		}
	case "eventlog":
		c.register(path, s.EventLog.Bank, s.EventLog.Index)
		for i, e := range s.EventLog.Events {
			c.digest(append(slices.Clip(path), "events", i, "digest"), s.EventLog.Bank, e.Digest)
		}
	case "qmp":
		if !slices.Contains(monitorCommands, s.QMP) {
			c.fail(path, "a test may not give the command %q%s", s.QMP, suggest(s.QMP, monitorCommands))
		}
	}
}

func (c checker) register(path []any, bank string, index int) {
	if banks[bank] == 0 {
		c.fail(append(slices.Clip(path), "bank"), "there is no bank %q%s", bank, suggest(bank, sortedKeys(banks)))
	}
	if index < 0 || index >= pcrCount {
		c.fail(append(slices.Clip(path), "index"), "there is no PCR %d: from 0 to %d", index, pcrCount-1)
	}
}

func (c checker) digest(path []any, bank, text string) {
	data, err := hex.DecodeString(text)
	if n := banks[bank]; n != 0 && (err != nil || len(data) != n) {
		c.fail(path, "%q is not a digest of %s: %d hex digits", text, bank, 2*n)
	}
}

// patterns checks regular expressions.
func (c checker) patterns(path []any, patterns []string) {
	for j, p := range patterns {
		c.pattern(append(slices.Clip(path), j), p)
	}
}

func (c checker) pattern(path []any, p string) {
	if err := CheckPattern(p); err != nil {
		c.fail(path, "%v", err)
	}
}

// CheckPattern says what is wrong with a regular expression, and at which of its characters. One that matches the empty
// line would pass whatever comes.
func CheckPattern(p string) error {
	re, err := regexp.Compile(p)
	switch {
	case err != nil:
		if e, ok := errors.AsType[*syntax.Error](err); ok {
			return fmt.Errorf("not a regular expression (RE2 syntax): %s: `%s`, at character %d of it; a backslash before any of "+
				". ( ) [ ] + * ? | makes plain text of it", e.Code, e.Expr, patternColumn(p, e))
		}
		return fmt.Errorf("not a regular expression (RE2 syntax): %w", err)
	case re.MatchString(""):
		return fmt.Errorf("%q matches an empty line, so it says nothing", p)
	}
	return nil
}

// patternColumn is where in a pattern an error is, counted from 1. The parser tells the part that it stumbled over; for a
// parenthesis that is never closed it tells all, and the last one open is meant.
func patternColumn(p string, e *syntax.Error) int {
	at := max(strings.Index(p, e.Expr), 0)
	if e.Code == syntax.ErrMissingParen {
		at = lastOpen(p)
	}
	return utf8.RuneCountInString(p[:at]) + 1
}

// lastOpen is the offset of the innermost parenthesis that is not closed.
func lastOpen(p string) int {
	var open []int
	class := false
	for i := 0; i < len(p); i++ {
		switch {
		case p[i] == '\\':
			i++
		case class:
			class = p[i] != ']'
		case p[i] == '[':
			class = true
		case p[i] == '(':
			open = append(open, i)
		case p[i] == ')' && len(open) > 0:
			open = open[:len(open)-1]
		}
	}
	if len(open) == 0 {
		return 0
	}
	return open[len(open)-1]
}
