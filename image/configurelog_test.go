package image

import (
	"strings"
	"testing"
)

// The lines are dpkg's own, from guests in which a script was made to fail.
func TestConfigureLog(t *testing.T) {
	for _, test := range []struct{ name, log, failure, doing string }{
		{"nothing", "", "", ""},
		{"well", "configure: ldconfig (3.20 s)\nSetting up libc6:amd64 (2.36-9) ...\nwords\n", "", "postinst of libc6"},
		{"trigger", "Setting up a (1) ...\nProcessing triggers for libc-bin (2.36-9) ...\n", "", "triggers of libc-bin"},
		{"postinst", "Setting up bad (1.0) ...\nno\ndpkg: error processing package bad (--configure):\n" +
			" installed bad package post-installation script subprocess returned error exit status 3\n" +
			"Errors were encountered while processing:\n bad\n", "postinst of bad failed with 3", "postinst of bad"},
		{"killed", "dpkg: error processing package bad:amd64 (--configure):\nsomebody else\n" +
			" installed bad:amd64 package post-installation script subprocess was killed by signal (Segmentation fault)\n",
			"postinst of bad was killed: Segmentation fault", ""},
		{"the first counts", "dpkg: error processing package bad (--configure):\n" +
			" installed bad package post-installation script subprocess returned error exit status 1\n" +
			"dpkg: error processing package other (--configure):\n dependency problems - leaving unconfigured\n",
			"postinst of bad failed with 1", ""},
		{"dependencies", "dpkg: error processing package other (--configure):\n" +
			" dependency problems - leaving unconfigured\n",
			"other cannot be configured: dependency problems - leaving unconfigured", ""},
		{"preinst", "configure: preinst (4.00 s)\nconfigure: preinst of bad failed with 2\n",
			"preinst of bad failed with 2", "preinst"},
		{"byte-compiling", "configure: postinst of python3.11 failed with 1\n", "postinst of python3.11 failed with 1", ""},
		{"no diversion", "configure: /usr/bin/x is in a and b, and b has not diverted it\n",
			"/usr/bin/x is in a and b, and b has not diverted it", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var l ConfigureLog
			for line := range strings.Lines(test.log) {
				l.Line(strings.TrimSuffix(line, "\n"))
			}
			if l.Failure() != test.failure || l.Doing() != test.doing {
				t.Errorf("got %q while %q, want %q while %q", l.Failure(), l.Doing(), test.failure, test.doing)
			}
		})
	}
}
