package image

import (
	"fmt"
	"regexp"
	"strings"
)

// ConfigureLog follows what configuring says, line by line, for the one thing that matters when it ends badly: whose
// script it was. The zero value is ready.
type ConfigureLog struct {
	doing  string // what went on at the last line
	broken string // the package that dpkg gave up
	failed string
}

// What is read from the lines of dpkg 1.17 and later (src/main/configure.c, lib/dpkg/subproc.c, src/main/errors.c)
// and of configure.sh. dpkg's own messages are not translated: the locale is C.UTF-8.
var (
	settingUp    = regexp.MustCompile(`^Setting up (\S+) \(`)
	processing   = regexp.MustCompile(`^Processing triggers for (\S+) \(`)
	ownStep      = regexp.MustCompile(`^configure: (.+) \([0-9.]+ s\)$`)
	ownFailure   = regexp.MustCompile(`^configure: (?:(preinst|postinst|script) of (\S+) failed with \d+|/\S+ is in .+)$`)
	gaveUp       = regexp.MustCompile(`^dpkg: error processing package (\S+) \(--configure\):$`)
	scriptFailed = regexp.MustCompile(`^ (?:installed|old|new) (\S+) package (\S+) script subprocess ` +
		`(?:returned error exit status (\d+)|was killed by signal \(([^)]+)\)|failed with wait status code (\d+))`)
)

// scripts are the names of maintainer scripts, by what dpkg calls them.
var scripts = map[string]string{"post-installation": "postinst", "pre-installation": "preinst"}

// Line takes the next line.
func (l *ConfigureLog) Line(line string) {
	if m := settingUp.FindStringSubmatch(line); m != nil {
		l.doing = "postinst of " + plain(m[1])
	} else if m := processing.FindStringSubmatch(line); m != nil {
		l.doing = "triggers of " + plain(m[1])
	} else if m := ownFailure.FindStringSubmatch(line); m != nil {
		l.fail(strings.TrimPrefix(line, "configure: "))
	} else if m := ownStep.FindStringSubmatch(line); m != nil {
		l.doing = m[1]
	} else if m := gaveUp.FindStringSubmatch(line); m != nil {
		l.broken = plain(m[1])
	} else if l.broken != "" && strings.HasPrefix(line, " ") { // not what somebody else says in between
		l.reason(line)
		l.broken = ""
	}
}

// reason reads the line after dpkg's 'error processing package'.
func (l *ConfigureLog) reason(line string) {
	m := scriptFailed.FindStringSubmatch(line)
	switch {
	case m == nil:
		l.fail(fmt.Sprintf("%s cannot be configured: %s", l.broken, strings.TrimSpace(line)))
		return
	case scripts[m[2]] != "":
		m[2] = scripts[m[2]]
	}
	how := "failed with " + m[3] + m[5]
	if m[4] != "" {
		how = "was killed: " + m[4]
	}
	l.fail(fmt.Sprintf("%s of %s %s", m[2], l.broken, how))
}

// fail keeps the first failure: the others follow from it.
func (l *ConfigureLog) fail(what string) {
	if l.failed == "" {
		l.failed = what
	}
}

// Failure says which script failed and how, as in 'postinst of libc6 failed with 1'; empty if none did.
func (l *ConfigureLog) Failure() string { return l.failed }

// Doing says what went on last, as in 'postinst of libc6'; empty before the first step.
func (l *ConfigureLog) Doing() string { return l.doing }

// plain is a package's name without its architecture.
func plain(name string) string {
	name, _, _ = strings.Cut(name, ":")
	return name
}
