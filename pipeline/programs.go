package pipeline

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/guest-agent/wire"
	"github.com/belljar/belljar/image"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/store"
	"github.com/belljar/belljar/verify"
)

// recordPrograms has every stage's guest tell which programs ran. The benchmark of what that costs turns it off.
const recordPrograms = true

// programs says of each program that a stage's guest told of what it was and where it came from.
func (n *node) programs(ctx context.Context, ran *wire.Programs) (*verify.Programs, error) {
	if ran == nil {
		return nil, nil
	}
	copies, err := n.copies(ran.List)
	if err != nil {
		return nil, err
	}
	list := map[verify.Program]int64{} // runs, by all the rest
	var ofRoot []wire.Program
	for _, p := range ran.List {
		if p.From == wire.FromRoot {
			ofRoot = append(ofRoot, p)
			continue
		}
		known := verify.Program{Path: p.Path, Digest: verify.Digest{SHA256: p.SHA256}}
		known.From, known.Of = n.origin(p, copies)
		list[known] += p.Runs
	}
	if err := n.rootPrograms(ctx, ofRoot, list); err != nil {
		return nil, err
	}
	all := &verify.Programs{List: []verify.Program{}, Unlisted: ran.Unlisted, Lost: ran.Lost}
	for p, runs := range list {
		p.Runs = runs
		all.List = append(all.List, p)
	}
	verify.SortPrograms(all.List)
	if ran.Lost > 0 {
		n.report(Event{
			Kind: Warning, Phase: PhaseStage, Name: n.name(),
			Text: fmt.Sprintf("the record of what ran has gaps: the guest's kernel could not tell %d times", ran.Lost),
		})
	}
	return all, nil
}

// rootPrograms looks at those that lie in the guest's root. The guest told their paths alone: its kernel held each block
// of them against the root hash, and the same blocks are here, where hashing them takes a twentieth of the time.
func (n *node) rootPrograms(ctx context.Context, ran []wire.Program, list map[verify.Program]int64) error {
	if len(ran) == 0 {
		return nil
	}
	file, err := n.verified(ctx, n.image.Root)
	if err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return fault.New(fault.Host, "read image", "%w", err)
	}
	defer f.Close()
	root, err := image.Open(ctx, n.image.Root.Short(), f, n.image.Size, n.store.Dir())
	if err != nil {
		return err
	}
	defer root.Close()
	for _, p := range ran {
		prog, err := root.Program(p.Path)
		if err != nil {
			return fault.New(fault.Guest, "record programs", "the guest told of a program that its root does not have: %w", err)
		}
		known := verify.Program{Path: prog.Path, Digest: verify.Digest{SHA256: prog.SHA256}, From: verify.FromImage}
		if pkg := prog.Package; pkg.Name != "" {
			known.From, known.Of = verify.FromPackage, verify.PackageURL(pkg.Name, pkg.Version, pkg.Arch)
		}
		list[known] += p.Runs
	}
	return nil
}

// origin says where a program came from that does not lie in the root. copies are those that are an output of a needed stage
// in another place.
func (n *node) origin(p wire.Program, copies map[string]string) (from, of string) {
	const stages, sources = "/build/stages/", "/build/sources/"
	for _, need := range n.needs {
		if p.From == wire.FromInput && strings.HasPrefix(p.Path, stages+need.stage.Name+"/") {
			return verify.FromStage, need.name()
		}
	}
	if rest, ok := strings.CutPrefix(p.Path, sources); ok && p.From == wire.FromInput {
		name, _, _ := strings.Cut(rest, "/")
		return verify.FromSource, name
	}
	if of, ok := copies[p.SHA256]; ok { // a copy is as good
		return verify.FromStage, of
	}
	return verify.FromMade, ""
}

// copies tells which of the programs that lay among the stage's own files are copies of what a needed stage made: the name
// of that stage by the program's SHA-256. A toolchain that was copied together is its stages' all the same.
func (n *node) copies(ran []wire.Program) (map[string]string, error) {
	unknown := map[string]bool{}
	for _, p := range ran {
		if p.From == wire.FromMade && p.SHA256 != "" {
			unknown[p.SHA256] = true
		}
	}
	found := map[string]string{}
	for _, need := range n.needs {
		for _, o := range need.result.Outputs {
			if len(unknown) == 0 {
				return found, nil
			}
			digests := []string{string(o.Digest)}
			if specs.IsFolder(o.Path) {
				var err error
				if digests, err = n.programsIn(o.Digest); err != nil {
					return nil, err
				}
			}
			for _, d := range digests {
				if unknown[d] {
					found[d] = need.name()
					delete(unknown, d)
				}
			}
		}
	}
	return found, nil
}

// programsIn are the SHA-256 of what may be run in a folder that a stage made.
func (n *node) programsIn(folder store.Digest) (digests []string, err error) {
	r, err := n.store.Open(folder)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	for tr := tar.NewReader(r); ; {
		m, err := tr.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, r) // the folder's own digest is proven at its end
			return digests, err
		}
		if err != nil {
			return nil, err
		}
		if m.Typeflag != tar.TypeReg || m.Mode&0o111 == 0 {
			continue
		}
		h := sha256.New()
		if _, err := io.Copy(h, tr); err != nil {
			return nil, err
		}
		digests = append(digests, hex.EncodeToString(h.Sum(nil)))
	}
}

// checkStrict refuses a build in which a program ran that nothing pins: it is of no locked package, no locked source and
// no output of a needed stage, and its stage did not say that it makes it.
func (j *job) checkStrict() error {
	for _, n := range j.nodes {
		if err := n.checkStrict(); err != nil {
			return err
		}
	}
	return nil
}

// maxOffenders is how many programs an error names.
const maxOffenders = 20

func (n *node) checkStrict() error {
	op, ran := "strict: stage "+n.name(), n.result.Programs
	if ran == nil {
		return fault.New(fault.Build, op, "it is not known which programs ran in it").
			WithRemedy("run it again: belljar build %s --strict --no-cache", n.opts.Spec)
	}
	if ran.Lost > 0 {
		return fault.New(fault.Build, op, "what ran is not known to the last program: the guest's kernel could not tell %d times",
			ran.Lost).WithRemedy("give the stage more memory ('memory' in the spec), and run it again with --no-cache")
	}
	var offenders []string
	var first verify.Program
	for _, p := range ran.List {
		if p.From != verify.FromMade || declared(n.stage.Makes, p.Path) {
			continue
		}
		if len(offenders) == 0 {
			first = p
		}
		offenders = append(offenders, fmt.Sprintf("%s %s", orMore(p.Digest.SHA256), p.Path))
	}
	switch {
	case len(offenders) > 0:
		names := map[string]bool{}
		for _, o := range offenders {
			names[path.Base(o)] = true
		}
		shown := offenders[:min(len(offenders), maxOffenders)]
		if more := len(offenders) - len(shown); more > 0 {
			shown = append(slices.Clip(shown), fmt.Sprintf("and %d more", more))
		}
		makes := slices.Sorted(maps.Keys(names))
		makes = makes[:min(len(makes), maxOffenders)]
		return fault.New(fault.Build, op,
			"%s (sha256 %s) ran, which is of no locked package, no locked source and no output of a needed stage",
			first.Path, orMore(first.Digest.SHA256)).
			WithEvidence("programs that nothing pins", strings.Join(shown, "\n")).
			WithRemedy("if the stage is meant to make and run what is listed, say so in the spec: makes: [%s]; "+
				"otherwise find out what makes it run them", strings.Join(makes, ", "))
	case ran.Unlisted > 0:
		return fault.New(fault.Build, op, "it ran more programs than a record can list: %d runs are of unlisted ones", ran.Unlisted).
			WithRemedy("split the stage, or build without --strict")
	}
	return nil
}

func orMore(digest string) string {
	if digest == "" {
		return "(more contents)"
	}
	return digest
}

// declared reports whether one of a stage's patterns fits a program: each is held against as many of the last parts of
// the path as it has itself.
func declared(makes []string, program string) bool {
	parts := strings.Split(strings.Trim(program, "/"), "/")
	for _, pattern := range makes {
		n := strings.Count(pattern, "/") + 1
		if n > len(parts) {
			continue
		}
		if ok, err := path.Match(pattern, strings.Join(parts[len(parts)-n:], "/")); ok && err == nil {
			return true
		}
	}
	return false
}

// Ran counts the programs of a build: all of its stages', each once.
type Ran struct {
	Programs int `json:"programs"`
	Packages int `json:"packages"` // that they came from
	Made     int `json:"made"`     // those that the build made itself
}

// ran is nil if nothing is known of some stage.
func (j *job) ran() *Ran {
	var r Ran
	packages, seen := map[string]bool{}, map[verify.Program]bool{}
	for _, n := range j.nodes {
		if n.result.Programs == nil {
			return nil
		}
		for _, p := range n.result.Programs.List {
			if p.Runs = 0; seen[p] {
				continue
			}
			seen[p] = true
			r.Programs++
			switch p.From {
			case verify.FromPackage:
				packages[p.Of] = true
			case verify.FromMade:
				r.Made++
			}
		}
	}
	r.Packages = len(packages)
	return &r
}
