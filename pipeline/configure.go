package pipeline

import (
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/guest-agent/wire"
	"github.com/belljar/belljar/image"
	"github.com/belljar/belljar/vm"
)

// What configuring may take, and how long a script of a package may say nothing, at the pace of KVM. Under TCG, whose
// pace is 10 or more, 145 packages take half a minute on two idle cores, and what takes longest is silent for twenty
// seconds.
const (
	configureTimeout = 2 * time.Minute
	configureSilence = 40 * time.Second
)

func configureStage(pace vm.Pace) wire.Stage {
	return wire.Stage{
		Name: "configure", Script: image.ConfigureScript, Root: true, WorkDir: "/build", OutDir: "/build/out",
		Env: map[string]string{}, Timeout: pace.Of(configureTimeout), Silence: pace.Of(configureSilence),
	}
}

// configureFault says what became of configuring the image, and whose script it was. A script that says no would say
// so again: a package is what was handed in. One that was waited for in vain, or whose guest went away, may do better
// the next time.
func configureFault(err error, reason string, log *image.ConfigureLog) error {
	const op = "configure the image"
	during := ""
	if doing := log.Doing(); doing != "" {
		during = " during " + doing
	}
	switch {
	case fault.KindOf(err) != fault.Build && during == "":
		return fault.New(fault.KindOf(err), op, "%w", err)
	case fault.KindOf(err) != fault.Build:
		return fault.New(fault.KindOf(err), op+during, "%w", err)
	case reason != "":
		return fault.New(fault.Guest, op+during, "%w", err).
			WithRemedy("see the log for what it waits for; where the host is merely busy, build again when it is not")
	case log.Failure() != "":
		return fault.New(fault.Input, op, "%s: %w", log.Failure(), err).
			WithRemedy("a package's own script says no, and would say so again: its last lines are in the log; " +
				"leave the package out of the spec, or lock another version of it")
	}
	return fault.New(fault.Guest, op+during, "%w", err).WithRemedy("see the log for what went wrong")
}
