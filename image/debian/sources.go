package debian

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/belljar/belljar/fault"
)

// Source is one source package of an index.
type Source struct {
	Name, Version string
	Format        string     // 3.0 (quilt), 3.0 (native), 1.0
	Directory     string     // below the archive's root
	Files         []FileHash // the .dsc among them; Name is the bare file name
}

// DSC is the .dsc file of the package.
func (s *Source) DSC() FileHash {
	for _, f := range s.Files {
		if strings.HasSuffix(f.Name, ".dsc") {
			return f
		}
	}
	return FileHash{} // newSource saw to it that there is one
}

// Path is where a file of the package lies below the archive's root.
func (s *Source) Path(file string) string { return path.Join(s.Directory, file) }

// FindSource looks a source package up in the suite: see the function of that name.
func (a *Archive) FindSource(ctx context.Context, name, version string) (*Source, error) {
	s, _, err := FindSource(ctx, []*Archive{a}, name, version)
	return s, err
}

// loadSources reads main/source/Sources when it is first asked for.
func (a *Archive) loadSources(ctx context.Context) error {
	if a.sources != nil {
		return nil
	}
	sources := map[string][]*Source{}
	err := a.readIndex(ctx, "main/source/Sources", func(r io.Reader) (err error) {
		sources, err = readSources(a.suite+"/main/source/Sources", r)
		return err
	})
	if err == nil {
		a.sources = sources
	}
	return err
}

func readSources(name string, r io.Reader) (map[string][]*Source, error) {
	sources := map[string][]*Source{}
	paragraphs := NewParagraphReader(name, r, "Package", "Version", "Format", "Directory", "Checksums-Sha256")
	for {
		p, err := paragraphs.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if len(p.Fields) == 0 {
			continue
		}
		s, err := newSource(p)
		if err != nil {
			return nil, fault.New(fault.Input, "read "+name, "%w", err)
		}
		sources[s.Name] = append(sources[s.Name], s)
	}
	for _, versions := range sources {
		slices.SortStableFunc(versions, func(a, b *Source) int { return mustCompare(b.Version, a.Version) })
	}
	return sources, nil
}

func newSource(p *Paragraph) (*Source, error) {
	for _, must := range []string{"Package", "Version", "Directory", "Checksums-Sha256"} {
		if p.Get(must) == "" {
			return nil, fmt.Errorf("line %d: source package %s has no field %s",
				p.Line, orUnnamed(p.Get("Package")), must)
		}
	}
	s := &Source{
		Name: p.Get("Package"), Version: p.Get("Version"), Format: p.Get("Format"),
		Directory: p.Get("Directory"),
	}
	if err := checkName(s.Name); err != nil {
		return nil, fmt.Errorf("line %d: %w", p.Line, err)
	}
	if _, err := ParseVersion(s.Version); err != nil {
		return nil, fmt.Errorf("line %d: source package %s: %w", p.Line, s.Name, err)
	}
	if !safePath(s.Directory) {
		return nil, fmt.Errorf("line %d: source package %s: Directory is %q, want a clean relative path",
			p.Line, s.Name, s.Directory)
	}
	var err error
	if s.Files, err = parseHashTable(p.Field("Checksums-Sha256")); err != nil {
		return nil, fmt.Errorf("source package %s: %w", s.Name, err)
	}
	dscs := 0
	for _, f := range s.Files {
		if strings.Contains(f.Name, "/") {
			return nil, fmt.Errorf("line %d: source package %s: the file %q is a path, want a bare name",
				p.Line, s.Name, f.Name)
		}
		if strings.HasSuffix(f.Name, ".dsc") {
			dscs++
		}
	}
	if dscs != 1 {
		return nil, fmt.Errorf("line %d: source package %s lists %d .dsc files, want one", p.Line, s.Name, dscs)
	}
	return s, nil
}
