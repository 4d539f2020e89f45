package fetch

import (
	"cmp"
	"fmt"
	"io/fs"
	"net/url"
	"strings"
	"time"
)

// source is one place where a file may be had.
type source struct {
	url    string
	base   string // the mirror it belongs to
	mirror Mirror
}

// sources lists where it may be had, best first: the mirrors in their order, last the snapshot archive.
func (f *Fetcher) sources(it Item) ([]source, error) {
	switch {
	case it.URL != "" && it.Pool != "", it.URL == "" && it.Pool == "":
		return nil, fmt.Errorf("expected a pool path or a URL (pool path %q, URL %q)", it.Pool, it.URL)
	case it.URL != "":
		u, err := url.Parse(it.URL)
		if err != nil {
			return nil, err
		}
		if err := checkScheme(u); err != nil {
			return nil, err
		}
		return []source{{url: it.URL, base: u.Scheme + "://" + u.Host}}, nil
	}
	paths := []string{it.Pool}
	if dir, _, ok := cutLast(it.Pool, "/"); ok && strings.HasPrefix(it.Pool, "dists/") {
		paths = append(paths, dir+"/by-hash/SHA256/"+string(it.Digest)) // survives the mirror's next update
	}
	return f.archiveSources(it.Archive, cmp.Or(it.Snapshot, f.Snapshot), it.pinned, paths...)
}

// archiveSources puts paths under each root of the archive.
func (f *Fetcher) archiveSources(archive, stamp string, pinned bool, paths ...string) ([]source, error) {
	archive = cmp.Or(archive, ArchiveMain)
	if !fs.ValidPath(archive) {
		return nil, fmt.Errorf("archive %q is not a relative path", archive)
	}
	if stamp == "" {
		stamp = time.Now().UTC().Format(stampLayout)
	}
	if _, err := time.Parse(stampLayout, stamp); err != nil {
		return nil, fmt.Errorf("snapshot %q: expected a time stamp such as 20250101T000000Z", stamp)
	}
	roots, err := f.Mirrors.roots(archive, stamp, pinned)
	if err != nil {
		return nil, err
	}
	var all []source
	for _, m := range roots {
		for _, p := range paths {
			if !fs.ValidPath(p) || p == "." {
				return nil, fmt.Errorf("path %q: expected a relative path with no '..'", p)
			}
			u, err := url.Parse(m.URL)
			if err != nil {
				return nil, fmt.Errorf("mirror %s: %w", m.URL, err)
			}
			u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/")+"/"+p, ""
			all = append(all, source{url: u.String(), base: m.URL, mirror: m})
		}
	}
	return all, nil
}

// stampLayout is how the snapshot archive writes a time.
const stampLayout = "20060102T150405Z"

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

func checkScheme(u *url.URL) error {
	switch {
	case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
		return nil
	case u.Scheme == "file" && (u.Host == "" || u.Host == "localhost") && strings.HasPrefix(u.Path, "/"):
		return nil
	}
	return fmt.Errorf("URL %q: expected http://HOST/…, https://HOST/… or file:///…", u.Redacted())
}

// strongFirst puts mirrors that failed before behind the others, so that one dead mirror costs its retries once.
func (f *Fetcher) strongFirst(all []source) []source {
	var strong, weak []source
	for _, s := range all {
		if f.isWeak(s) {
			weak = append(weak, s)
		} else {
			strong = append(strong, s)
		}
	}
	return append(strong, weak...)
}

func (f *Fetcher) isWeak(s source) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.weak[s.base]
}

func (f *Fetcher) setWeak(s source, weak bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.weak[s.base] = weak
}
