package libvirt

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/belljar/belljar/fault"
)

func TestParseURI(t *testing.T) {
	for uri, want := range map[string]target{
		"qemu:///system":                               {transport: "unix", driver: "qemu:///system"},
		"qemu:///session?socket=/a/b":                  {transport: "unix", driver: "qemu:///session", socket: "/a/b"},
		"qemu+unix:///system?socket=/a/b":              {transport: "unix", driver: "qemu:///system", socket: "/a/b"},
		"qemu+tcp://host/system":                       {transport: "tcp", driver: "qemu:///system", host: "host:16509"},
		"qemu+tcp://[::1]:5/session":                   {transport: "tcp", driver: "qemu:///session", host: "[::1]:5"},
		"qemu+ssh://me@host:22/system":                 {transport: "ssh", driver: "qemu:///system", host: "host", port: "22", user: "me"},
		"qemu+ssh://host/session?socket=/a&keyfile=/k": {transport: "ssh", driver: "qemu:///session", host: "host", socket: "/a", keyfile: "/k"},
	} {
		want.uri = uri
		got, err := parseURI(uri)
		if err != nil {
			t.Errorf("%s: %v", uri, err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(target{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", uri, diff)
		}
	}
}

func TestParseURIRefuses(t *testing.T) {
	for uri, word := range map[string]string{
		"":                                "driver",
		"/run/libvirt":                    "driver",
		"xen:///system":                   "driver",
		"qemu:///":                        "path",
		"qemu:///other":                   "path",
		"qemu://host/system":              "TLS",
		"qemu+tls://host/system":          "transport",
		"qemu+libssh2://host/system":      "transport",
		"qemu+tcp:///system":              "no host",
		"qemu+ssh:///system":              "no host",
		"qemu:///system?sokcet=/a":        `"sokcet"`,
		"qemu+ssh://host/system?mode=a b": `"mode"`,
		"qemu://%zz/system":               "%zz",
	} {
		_, err := parseURI(uri)
		e, ok := errors.AsType[*fault.Error](err)
		if !ok || e.Kind != fault.Usage || e.Remedy == "" || !strings.Contains(e.Error(), word) {
			t.Errorf("%s: %v, want a usage fault with %q and a remedy", uri, err, word)
		}
	}
}

func TestSSHArgs(t *testing.T) {
	for uri, want := range map[string][]string{
		"qemu+ssh://host/system":                     {"--", "host", "exec virt-ssh-helper 'qemu:///system'"},
		"qemu+ssh://me@host:2222/session?keyfile=/k": {"-p", "2222", "-l", "me", "-i", "/k", "--", "host", "exec virt-ssh-helper 'qemu:///session'"},
		"qemu+ssh://host/system?socket=/it's":        {"--", "host", `exec nc -U '/it'\''s'`},
		// A host that looks like an option stays a host.
		"qemu+ssh://-oProxyCommand=x/system": {"--", "-oProxyCommand=x", "exec virt-ssh-helper 'qemu:///system'"},
	} {
		target, err := parseURI(uri)
		if err != nil {
			t.Errorf("%s: %v", uri, err)
			continue
		}
		got := target.sshArgs()
		if i := slices.Index(got, "BatchMode=yes"); !slices.Equal(got[i+1:], want) {
			t.Errorf("%s: %q, want %q at its end", uri, got, want)
		}
	}
}

// What to do about a socket that does not open depends on why, and on whose it is.
func TestUnixRemedies(t *testing.T) {
	for _, c := range []struct {
		uri  string
		err  error
		word string
	}{
		{"qemu:///system", fs.ErrPermission, "group libvirt"},
		{"qemu:///system", fs.ErrNotExist, "systemctl start"},
		{"qemu:///session", fs.ErrNotExist, "virsh -c qemu:///session"},
	} {
		target, err := parseURI(c.uri)
		if err != nil {
			t.Fatal(err)
		}
		e := target.noSocket(c.err)
		if e.Kind != fault.Host || !strings.Contains(e.Remedy, c.word) || !strings.Contains(e.Error(), c.uri) {
			t.Errorf("%s, %v: %v, remedy %q, want %q", c.uri, c.err, e, e.Remedy, c.word)
		}
	}
}
