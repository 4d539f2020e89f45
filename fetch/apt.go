package fetch

import (
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"slices"
	"strings"
)

// This file reads the machine's apt configuration: sources.list(5) in both its forms, and of apt.conf(5) the proxies.
// It is read for hints, not for truth: what apt would refuse is passed over, and what comes from a wrong mirror
// fails its digest.

// aptSource is one archive of sources.list(5).
type aptSource struct {
	uri        string
	suite      string
	components []string
	signedBy   string
	from       string
}

// aptMirrors lists the mirrors of Debian's own archives that apt uses, each once, in apt's order.
func aptMirrors(root fs.FS) []Mirror {
	proxies := aptProxies(root)
	var list []Mirror
	for _, s := range aptSources(root) {
		u, err := url.Parse(s.uri)
		if err != nil {
			continue
		}
		archive := s.archive(u)
		if archive == "" {
			continue
		}
		m := Mirror{URL: strings.TrimRight(s.uri, "/"), Archive: archive, From: s.from, Proxy: proxies.choose(u)}
		if !slices.ContainsFunc(list, func(x Mirror) bool { return x.URL == m.URL }) {
			list = append(list, m)
		}
	}
	return list
}

// debianSuites are the names under dists/ of Debian's main archive, from the oldest release in it.
var debianSuites = []string{
	"bullseye", "bookworm", "trixie", "forky", "duke", "sid",
	"oldoldstable", "oldstable", "stable", "testing", "unstable",
}

// archive is which of Debian's archives it is, "" for none of them: derivatives' and vendors' are left out. Signed-By
// tells best; without it the path does: mirrors by convention end in /debian, those of the security archive in
// /debian-security.
func (s aptSource) archive(u *url.URL) string {
	suite, security := strings.CutSuffix(s.suite, "-security")
	for _, suffix := range []string{"-updates", "-backports", "-proposed-updates"} {
		suite = strings.TrimSuffix(suite, suffix)
	}
	dir := strings.TrimRight(u.Path, "/")
	if checkScheme(u) != nil || !slices.Contains(debianSuites, suite) || !slices.Contains(s.components, "main") ||
		strings.HasSuffix(dir, "/debian-debug") {
		return ""
	}
	archive := ArchiveMain
	if security {
		archive = ArchiveSecurity
	}
	named := path.Base(dir)
	if isStamp(named) {
		named = path.Base(path.Dir(dir))
	}
	switch {
	case !security && strings.HasSuffix(dir, "-security"): // a suite that is not there
		return ""
	case s.signedBy != "" && !strings.HasPrefix(path.Base(s.signedBy), "debian-archive-"):
		return ""
	case s.signedBy == "" && named != archive:
		return ""
	}
	return archive
}

// isStamp recognises the snapshot archive's time stamps, 20250101T000000Z.
func isStamp(s string) bool {
	return len(s) == len(stampLayout) && s[8] == 'T' && s[15] == 'Z' && strings.Trim(s, "0123456789TZ") == ""
}

func aptSources(root fs.FS) []aptSource {
	var all []aptSource
	if b, err := fs.ReadFile(root, "etc/apt/sources.list"); err == nil {
		all = append(all, parseSourcesList("/etc/apt/sources.list", string(b))...)
	}
	entries, _ := fs.ReadDir(root, "etc/apt/sources.list.d") // sorted by name, as apt does
	for _, e := range entries {
		name := "etc/apt/sources.list.d/" + e.Name()
		b, err := fs.ReadFile(root, name)
		if err != nil {
			continue
		}
		switch path.Ext(name) {
		case ".list":
			all = append(all, parseSourcesList("/"+name, string(b))...)
		case ".sources":
			all = append(all, parseDeb822Sources("/"+name, string(b))...)
		}
	}
	return all
}

// parseSourcesList reads the one-line form: type [ option=value … ] uri suite component…
func parseSourcesList(file, text string) []aptSource {
	var all []aptSource
	for n, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		typ, rest, _ := cutSpace(line)
		if typ != "deb" { // deb-src alone promises no binary packages
			continue
		}
		signedBy := ""
		if inner, ok := strings.CutPrefix(rest, "["); ok {
			options, after, ok := strings.Cut(inner, "]")
			if !ok {
				continue
			}
			rest = after
			for _, o := range strings.Fields(options) {
				if v, ok := strings.CutPrefix(o, "signed-by="); ok {
					signedBy = v
				}
			}
		}
		f := strings.Fields(rest)
		if len(f) < 3 || strings.HasPrefix(f[0], "cdrom:") { // an exact path has no component: never Debian's archive
			continue
		}
		all = append(all, aptSource{f[0], f[1], f[2:], signedBy, fmt.Sprintf("%s:%d", file, n+1)})
	}
	return all
}

// parseDeb822Sources reads the deb822 form: paragraphs of fields, each the product of its URIs and suites.
func parseDeb822Sources(file, text string) []aptSource {
	var all []aptSource
	fields, name, start := map[string]string{}, "", 0
	flush := func() {
		if enabled(fields["enabled"]) && slices.Contains(strings.Fields(fields["types"]), "deb") {
			for _, uri := range strings.Fields(fields["uris"]) {
				for _, suite := range strings.Fields(fields["suites"]) {
					all = append(all, aptSource{uri, suite, strings.Fields(fields["components"]),
						strings.TrimSpace(fields["signed-by"]), fmt.Sprintf("%s:%d", file, start)})
				}
			}
		}
		fields, name = map[string]string{}, ""
	}
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimRight(line, " \t\r")
		switch {
		case line == "":
			flush()
		case line[0] == '#':
		case line[0] == ' ' || line[0] == '\t':
			if name != "" {
				fields[name] += "\n" + line
			}
		default:
			key, value, ok := strings.Cut(line, ":")
			if !ok {
				name = ""
				continue
			}
			if len(fields) == 0 {
				start = n + 1
			}
			name = strings.ToLower(strings.TrimSpace(key))
			fields[name] = value
		}
	}
	flush()
	return all
}

// enabled reads apt's idea of a boolean; the field's default is yes.
func enabled(s string) bool {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "no", "false", "without", "off", "disable", "0":
		return false
	}
	return true
}

func cutSpace(s string) (first, rest string, ok bool) {
	s = strings.TrimSpace(s)
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return s, "", false
	}
	return s[:i], strings.TrimSpace(s[i:]), true
}
