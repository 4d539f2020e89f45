package fetch

import (
	"io/fs"
	"net/url"
	"path"
	"strings"
)

// proxyTable holds apt's proxies: by scheme, and by scheme and host.
type proxyTable map[string]string

// choose says which proxy apt would use for u, in Mirror.Proxy's terms. What is said of the host goes before what is
// said of all, and https takes what it lacks from http (apt-transport-https(1)).
func (t proxyTable) choose(u *url.URL) string {
	schemes := []string{strings.ToLower(u.Scheme)}
	if schemes[0] == "https" {
		schemes = append(schemes, "http")
	}
	for _, of := range []string{"::" + strings.ToLower(u.Hostname()), ""} {
		for _, scheme := range schemes {
			if p := t[scheme+of]; p != "" {
				return p
			}
		}
	}
	return ""
}

// aptProxies reads Acquire::http::Proxy, Acquire::https::Proxy and their per-host forms. As in apt, apt.conf.d comes
// first, apt.conf overrides it.
func aptProxies(root fs.FS) proxyTable {
	t := proxyTable{}
	var files []string
	entries, _ := fs.ReadDir(root, "etc/apt/apt.conf.d")
	for _, e := range entries {
		if ext := path.Ext(e.Name()); ext == "" || ext == ".conf" {
			files = append(files, "etc/apt/apt.conf.d/"+e.Name())
		}
	}
	for _, name := range append(files, "etc/apt/apt.conf") {
		b, err := fs.ReadFile(root, name)
		if err != nil {
			continue
		}
		for key, value := range parseAptConf(string(b)) {
			if rest, ok := strings.CutPrefix(key, "acquire::"); ok {
				scheme, which, _ := strings.Cut(rest, "::")
				host, perHost := strings.CutPrefix(which, "proxy::")
				switch {
				case scheme != "http" && scheme != "https":
				case which == "proxy":
					t[scheme] = value
				case perHost:
					t[scheme+"::"+host] = value
				}
			}
		}
	}
	return t
}

// parseAptConf reads the syntax of apt.conf(5): 'a::b "value";', nested in braces or not, with three kinds of
// comment. Keys come back in lower case: apt's are case-insensitive. Lists ('a { "x"; "y"; }') are passed over.
func parseAptConf(text string) map[string]string {
	values := map[string]string{}
	var scope, words []string
	prefix := func() string { return strings.Join(scope, "") }
	for _, tok := range aptConfTokens(text) {
		switch tok {
		case "{":
			key := ""
			if len(words) > 0 {
				key = strings.ToLower(words[0]) + "::"
			}
			scope, words = append(scope, key), nil
		case "}":
			if len(scope) > 0 {
				scope = scope[:len(scope)-1]
			}
			words = nil
		case ";":
			if len(words) == 2 && !strings.HasPrefix(words[0], `"`) {
				values[prefix()+strings.ToLower(words[0])] = strings.Trim(words[1], `"`)
			}
			words = nil
		default:
			words = append(words, tok)
		}
	}
	return values
}

// aptConfTokens splits into words, quoted words with their quotes, and the marks '{', '}', ';'.
func aptConfTokens(s string) []string {
	var toks []string
	for len(s) > 0 {
		switch {
		case strings.IndexByte(" \t\r\n", s[0]) >= 0:
			s = s[1:]
		case s[0] == '#', strings.HasPrefix(s, "//"): // '#clear' and '#include' too: neither sets a proxy here
			_, s, _ = strings.Cut(s, "\n")
		case strings.HasPrefix(s, "/*"):
			_, s, _ = strings.Cut(s, "*/")
		case strings.IndexByte("{};", s[0]) >= 0:
			toks, s = append(toks, s[:1]), s[1:]
		case s[0] == '"':
			word, rest, _ := strings.Cut(s[1:], `"`)
			toks, s = append(toks, `"`+word+`"`), rest
		default:
			n := strings.IndexAny(s, " \t\r\n{};\"")
			if n < 0 {
				n = len(s)
			}
			toks, s = append(toks, s[:n]), s[n:]
		}
	}
	return toks
}
