package fetch

import (
	"cmp"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/belljar/belljar/fault"
)

// Debian's archives, by the folder that each has on a mirror and in the snapshot archive.
const (
	ArchiveMain     = "debian"
	ArchiveSecurity = "debian-security"
)

// Mirror is the root of a Debian archive: the folder that holds dists/ and pool/.
type Mirror struct {
	URL     string // http, https or file; no slash at its end
	Archive string // which archive it is; "" is the main one
	From    string // who named it: a file and line, the environment, the command line
	Proxy   string // URL of the proxy to use; "" is what HTTP_PROXY and its like say, "DIRECT" is none
}

// Mirrors is where Debian files come from, in the order in which they are tried; the snapshot archive comes last.
type Mirrors struct {
	List        []Mirror
	SnapshotURL string // holds ARCHIVE/TIMESTAMP/pool/…; "" leaves it out
	Proxy       string // for everything, mirrors or not, and before what a Mirror says; "DIRECT" is none
}

// defaultSnapshotURL is Debian's archive of everything that it ever published.
const defaultSnapshotURL = "https://snapshot.debian.org/archive"

// MirrorVariable names mirrors in the environment, separated by spaces.
const MirrorVariable = "BELLJAR_MIRROR"

// Config is the part of the user's configuration file that this package understands.
type Config struct {
	Path     string   `yaml:"-"`        // of the file
	Mirror   []string `yaml:"mirror"`   // roots of Debian archives, best first: URLs or folders
	Proxy    string   `yaml:"proxy"`    // URL, or direct; left out: apt's for apt's mirrors, else http_proxy and its like
	Snapshot string   `yaml:"snapshot"` // root of a snapshot archive: it holds debian/TIMESTAMP/dists
}

// DefaultMirrors finds where Debian files come from: explicit (the command line) wins, then BELLJAR_MIRROR, then the
// 'mirror:' list of the configuration, then the machine's apt configuration.
func DefaultMirrors(config Config, explicit ...string) (Mirrors, error) {
	return discover(config, explicit, os.Getenv, os.DirFS("/"))
}

func discover(config Config, explicit []string, getenv func(string) string, root fs.FS) (_ Mirrors, err error) {
	m := Mirrors{SnapshotURL: defaultSnapshotURL}
	if config.Snapshot != "" {
		one, err := parseMirrors(config.Path+", snapshot", []string{config.Snapshot})
		if err != nil {
			return m, err
		}
		m.SnapshotURL = one[0].URL
	}
	if m.Proxy, err = parseProxy(config.Path, config.Proxy); err != nil {
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
		{config.Path, config.Mirror},
	} {
		if len(from.urls) > 0 {
			m.List, err = parseMirrors(from.name, from.urls)
			if err == nil {
				err = checkFolders(m.List)
			}
			return m, err
		}
	}
	m.List = aptMirrors(root)
	return m, nil
}

func parseMirrors(from string, urls []string) ([]Mirror, error) {
	var list []Mirror
	for _, s := range urls {
		u, err := parseMirror(s)
		if err != nil {
			return nil, fault.New(fault.Input, "mirror", "%s: %w", from, err).
				WithRemedy("Name the folder that holds dists/ and pool/, as in http://mirror.example/debian or " +
					"/srv/debian.")
		}
		m := Mirror{URL: strings.TrimRight(u.String(), "/"), From: from}
		if strings.HasSuffix(archiveElement(u.Path), "-security") {
			m.Archive = ArchiveSecurity
		}
		list = append(list, m)
	}
	return list, nil
}

// parseMirror reads a URL, or a path: what begins with '/' or '.' is one.
func parseMirror(s string) (*url.URL, error) {
	if strings.HasPrefix(s, "/") || strings.HasPrefix(s, ".") {
		dir, err := filepath.Abs(s)
		if err != nil {
			return nil, err
		}
		return &url.URL{Scheme: "file", Path: dir}, nil
	}
	u, err := url.Parse(s)
	if err == nil {
		err = checkScheme(u)
	}
	if err == nil && u.Scheme == "file" { // file:/srv/debian too
		u = &url.URL{Scheme: "file", Path: u.Path}
	}
	return u, err
}

// checkFolders looks at the mirrors that are folders: one that is not there, or holds no archive, is told at once.
func checkFolders(list []Mirror) error {
	for _, m := range list {
		u, err := url.Parse(m.URL)
		if err != nil || u.Scheme != "file" {
			continue
		}
		missing, hint := lacks(u.Path)
		if missing == "" {
			continue
		}
		return fault.New(fault.Input, "mirror", "%s: %s %s", m.From, u.Path, missing).WithRemedy("%s", hint)
	}
	return nil
}

// lacks says what a folder lacks that a Debian archive has, and what to do about it; "" if nothing.
func lacks(dir string) (missing, hint string) {
	isDir := func(name string) bool {
		info, err := os.Stat(filepath.Join(dir, name))
		return err == nil && info.IsDir()
	}
	if !isDir(".") {
		return "is not a folder that can be read", "Check the path, or that the disk with the mirror is mounted."
	}
	var parts []string
	for _, part := range []string{"dists", "pool"} {
		if !isDir(part) {
			parts = append(parts, part+"/")
		}
	}
	if len(parts) == 0 {
		return "", ""
	}
	hint = "Name the folder that holds dists/ (the indexes) and pool/ (the packages), as debmirror and apt-mirror make it."
	if found, _ := filepath.Glob(filepath.Join(dir, "*", "dists")); len(found) > 0 {
		hint = "Name the folder below: " + filepath.Dir(found[0]) + "."
	}
	return "has no " + strings.Join(parts, " and no "), hint
}

// parseProxy reads 'proxy:' of the configuration file, in Mirror.Proxy's terms.
func parseProxy(from, s string) (string, error) {
	if s == "" || strings.EqualFold(s, direct) {
		return strings.ToUpper(s), nil
	}
	u, err := url.Parse(s)
	if err == nil && (u.Host == "" || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme)) {
		err = fmt.Errorf("it is %q", u.Redacted())
	}
	if err != nil {
		return "", fault.New(fault.Input, "proxy", "%s: proxy: %w", from, err).
			WithRemedy("Write its URL, as in http://proxy.example:3128, or direct for none at all.")
	}
	return s, nil
}

// roots lists where an archive may be had, best first, last the snapshot archive at a moment. pinned asks for the very
// state of that moment: then a mirror will do only if its own path says that it is of it.
func (m Mirrors) roots(archive, stamp string, pinned bool) ([]Mirror, error) {
	var own, derived []Mirror
	for _, x := range m.List {
		switch {
		case cmp.Or(x.Archive, ArchiveMain) == archive:
			own = append(own, x)
		case x.Archive == "" || x.Archive == ArchiveMain:
			derived = append(derived, x.sibling(archive)...)
		}
	}
	if len(own) == 0 {
		own = derived // by convention archives lie side by side, or one folder holds the suites of all
	}
	if pinned {
		own = slices.DeleteFunc(own, func(x Mirror) bool { return x.stamp() != stamp })
	}
	if m.SnapshotURL != "" {
		base, err := url.JoinPath(m.SnapshotURL, archive, stamp)
		if err != nil {
			return nil, err
		}
		own = append(own, Mirror{URL: base, Archive: archive, From: snapshotName})
	}
	return own, nil
}

// snapshotName is the snapshot archive's Mirror.From.
const snapshotName = "the snapshot archive"

// sibling is where a mirror of the main archive may have another one: beside it, or in the same folder.
func (m Mirror) sibling(archive string) []Mirror {
	beside, same := m, m
	beside.Archive, same.Archive = archive, archive
	u, err := url.Parse(m.URL)
	if err != nil || archiveElement(u.Path) != ArchiveMain {
		return []Mirror{same}
	}
	dir, rest := path.Dir(u.Path), ""
	if isStamp(path.Base(u.Path)) {
		dir, rest = path.Dir(dir), path.Base(u.Path)
	}
	u.Path, u.RawPath = path.Join(dir, archive, rest), ""
	beside.URL = u.String()
	return []Mirror{beside, same}
}

// stamp is the moment of the snapshot archive that a mirror's path says it is of, "" if none.
func (m Mirror) stamp() string {
	if u, err := url.Parse(m.URL); err == nil && isStamp(path.Base(u.Path)) {
		return path.Base(u.Path)
	}
	return ""
}

// archiveElement is the part of a mirror's path that by convention says which archive it is.
func archiveElement(p string) string {
	p = strings.TrimRight(p, "/")
	if isStamp(path.Base(p)) {
		p = path.Dir(p)
	}
	return path.Base(p)
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
