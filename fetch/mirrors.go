package fetch

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"

	"github.com/belljar/belljar/fault"
	"github.com/goccy/go-yaml"
)

// Mirror is the root of a Debian archive: the folder that holds dists/ and pool/.
type Mirror struct {
	URL   string // http, https or file; no slash at its end
	From  string // who named it: a file and line, the environment, the command line
	Proxy string // URL of the proxy to use; "" is what HTTP_PROXY and its like say, "DIRECT" is none
}

// Mirrors is where Debian files come from, in the order in which they are tried; the snapshot archive comes last.
type Mirrors struct {
	List        []Mirror
	SnapshotURL string // holds ARCHIVE/TIMESTAMP/pool/…; "" leaves it out
}

// defaultSnapshotURL is Debian's archive of everything that it ever published.
const defaultSnapshotURL = "https://snapshot.debian.org/archive"

// MirrorVariable names mirrors in the environment, separated by spaces.
const MirrorVariable = "BELLJAR_MIRROR"

// Config is the part of the user's configuration file that this package reads.
type Config struct {
	Mirror []string `yaml:"mirror"` // roots of Debian archives, best first
}

// DefaultMirrors finds where Debian files come from: explicit (the command line) wins, then BELLJAR_MIRROR, then the
// 'mirror:' list in the configuration file, then the machine's apt configuration. A configPath that is not there is
// no error.
func DefaultMirrors(configPath string, explicit ...string) (Mirrors, error) {
	return discover(configPath, explicit, os.Getenv, os.DirFS("/"))
}

func discover(configPath string, explicit []string, getenv func(string) string, root fs.FS) (Mirrors, error) {
	m := Mirrors{SnapshotURL: defaultSnapshotURL}
	config, err := readConfig(configPath) // read always: a mistake in it is told even where it does not matter
	if err != nil {
		return m, err
	}
	between := func(r rune) bool { return r == ' ' || r == ',' || r == '\n' }
	fromEnv := strings.FieldsFunc(getenv(MirrorVariable), between)
	for _, from := range []struct {
		name string
		urls []string
	}{
		{"the command line", explicit},
		{"the environment variable " + MirrorVariable, fromEnv},
		{configPath, config.Mirror},
	} {
		if len(from.urls) > 0 {
			m.List, err = parseMirrors(from.name, from.urls)
			return m, err
		}
	}
	m.List = aptMirrors(root)
	return m, nil
}

func parseMirrors(from string, urls []string) ([]Mirror, error) {
	var list []Mirror
	for _, s := range urls {
		u, err := url.Parse(s)
		if err == nil {
			err = checkScheme(u)
		}
		if err != nil {
			return nil, fault.New(fault.Input, "mirror", "%s: %w", from, err).
				WithRemedy("Name the folder that holds dists/ and pool/, as in http://mirror.example/debian or " +
					"file:///srv/debian.")
		}
		list = append(list, Mirror{URL: strings.TrimRight(s, "/"), From: from})
	}
	return list, nil
}

func readConfig(path string) (Config, error) {
	var c Config
	if path == "" {
		return c, nil
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fault.New(fault.Input, "read configuration", "%w", err)
	}
	if len(strings.TrimSpace(string(b))) == 0 {
		return c, nil
	}
	if err := yaml.UnmarshalWithOptions(b, &c, yaml.Strict()); err != nil {
		return c, fault.New(fault.Input, "read configuration", "%s: %s", path, yaml.FormatError(err, false, true)).
			WithRemedy("The file has one key, 'mirror:', a list of URLs.")
	}
	return c, nil
}

// String lists the mirrors for people.
func (m Mirrors) String() string {
	var b strings.Builder
	for _, x := range m.List {
		fmt.Fprintf(&b, "%s (from %s)\n", redact(x.URL), x.From)
	}
	if m.SnapshotURL != "" {
		fmt.Fprintf(&b, "%s (the snapshot archive, last)\n", m.SnapshotURL)
	}
	return b.String()
}

// redact hides the password in a URL.
func redact(s string) string {
	if u, err := url.Parse(s); err == nil {
		return u.Redacted()
	}
	return s
}
