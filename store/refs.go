package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/belljar/belljar/fault"
)

// Bind gives a small value a name: JSON under refs/KIND/KEY, replaced atomically. A value that names objects does
// not keep them: Collect's roots do, and whoever looks a ref up checks that its objects are still there.
func (s *Store) Bind(kind, key string, v any) error {
	path, err := s.refPath(kind, key)
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("bind %s/%s: %w", kind, key, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return hostFault("bind "+kind, s.dir, -1, err)
	}
	return s.writeFile(path, append(b, '\n'))
}

// Lookup decodes the value under that name into v; false if there is none.
func (s *Store) Lookup(kind, key string, v any) (bool, error) {
	path, err := s.refPath(kind, key)
	if err != nil {
		return false, err
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, hostFault("look up "+kind, s.dir, -1, err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return false, fault.New(fault.Input, "look up "+kind, "%s is damaged: %w", path, err).
			WithRemedy("Remove that file: what it names is made again.")
	}
	return true, nil
}

// Unbind forgets a name. One that is not there is no error.
func (s *Store) Unbind(kind, key string) error {
	path, err := s.refPath(kind, key)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return hostFault("unbind "+kind, s.dir, -1, err)
	}
	return nil
}

// List returns the keys of a kind, sorted.
func (s *Store) List(kind string) ([]string, error) {
	if _, err := s.refPath(kind, "x"); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(s.path("refs", kind))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, hostFault("list "+kind, s.dir, -1, err)
	}
	var keys []string
	for _, e := range entries {
		if key, ok := unescapeKey(e.Name()); ok {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys, nil
}

func (s *Store) refPath(kind, key string) (string, error) {
	if kind == "" || strings.Trim(kind, "abcdefghijklmnopqrstuvwxyz-") != "" {
		return "", fmt.Errorf("ref kind %q: expected lower-case letters and '-'", kind)
	}
	name := escapeKey(key)
	if key == "" || len(name) > 255 {
		return "", fmt.Errorf("ref key %q of kind %s: expected 1 to 255 characters", key, kind)
	}
	return s.path("refs", kind, name), nil
}

// escapeKey makes one file name of any key, and the same key of that name: letters, digits and inner '.', '-', '_',
// '+', '~' and '=' stay, every other byte is written %xx.
func escapeKey(key string) string {
	var b strings.Builder
	for i, c := range []byte(key) {
		if plain(c) || (i > 0 && strings.IndexByte(".-_+~=", c) >= 0) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	return b.String()
}

func plain(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func unescapeKey(name string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		if name[i] != '%' {
			b.WriteByte(name[i])
			continue
		}
		var c byte
		if i+2 >= len(name) {
			return "", false
		}
		if _, err := fmt.Sscanf(name[i+1:i+3], "%02x", &c); err != nil {
			return "", false
		}
		b.WriteByte(c)
		i += 2
	}
	key := b.String()
	return key, escapeKey(key) == name
}
