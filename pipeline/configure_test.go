package pipeline

import (
	"errors"
	"strings"
	"testing"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/image"
)

func TestConfigureFault(t *testing.T) {
	const going = "Setting up openssh-server (1:9.2p1-2) ...\n"
	const failed = going + "dpkg: error processing package openssh-server (--configure):\n" +
		" installed openssh-server package post-installation script subprocess returned error exit status 1\n"
	exited := fault.New(fault.Build, "stage configure", "script exited 1")
	for _, test := range []struct {
		name, log, reason string
		err               error
		kind              fault.Kind
		words             []string
		remedy            bool
	}{
		{"a script fails", failed, "", exited, fault.Input, []string{"postinst of openssh-server failed with 1"}, true},
		{"a script hangs", going, "silence: no output for 6m0s",
			fault.New(fault.Build, "stage configure", "silence: no output for 6m0s"),
			fault.Guest, []string{"during postinst of openssh-server", "no output for 6m"}, true},
		{"the guest powers off", going, "", fault.New(fault.Guest, "guest", "it went away"),
			fault.Guest, []string{"during postinst of openssh-server", "it went away"}, false},
		{"QEMU dies", "", "", fault.New(fault.Host, "qemu", "killed"), fault.Host, []string{"killed"}, false},
		{"nobody knows why", "configure: check (9.0 s)\n", "", exited, fault.Guest, []string{"during check"}, true},
		{"unclassified", going, "", errors.New("odd"), fault.Unknown, []string{"odd"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var log image.ConfigureLog
			for line := range strings.Lines(test.log) {
				log.Line(strings.TrimSuffix(line, "\n"))
			}
			err := configureFault(test.err, test.reason, &log)
			wantFault(t, err, test.kind, append(test.words, "configure the image")...)
			if got := fault.Chain(err)[0].Remedy != ""; got != test.remedy {
				t.Errorf("remedy %q", fault.Chain(err)[0].Remedy)
			}
			if !errors.Is(err, test.err) {
				t.Error("the cause is lost, and its evidence with it")
			}
		})
	}
}
