package verify

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Where a program came from.
const (
	FromPackage = "package" // of the guest's image: a file of a locked package
	FromImage   = "image"   // of the guest's image, and of no package: what a package's own script made there
	FromStage   = "stage"   // an output of a stage that is needed, as it was
	FromSource  = "source"  // a file of a source, as it was
	FromMade    = "made"    // made, changed or unpacked by the stage that ran it
)

// Programs is every program that a stage ran: each file that the guest's kernel opened in order to run it. It is of the
// run, not of the claim: how often a build tries something may hang on how fast a machine is.
type Programs struct {
	List     []Program `json:"list"`               // sorted by path, digest and origin
	Unlisted int64     `json:"unlisted,omitempty"` // runs of programs beyond what a record lists
	Lost     int64     `json:"lost,omitempty"`     // times that the guest's kernel could not tell what it ran
}

// Program is a path with a content.
type Program struct {
	Path   string `json:"path"`            // in the guest
	Digest Digest `json:"digest,omitzero"` // not there: the rest at this path, whose contents were too many to list
	From   string `json:"from"`
	Of     string `json:"of,omitempty"` // the package's URL, the stage's name or the source's
	Runs   int64  `json:"runs"`
}

func comparePrograms(a, b Program) int {
	return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Digest.SHA256, b.Digest.SHA256), cmp.Compare(a.From, b.From))
}

// SortPrograms puts programs in the order of a record.
func SortPrograms(list []Program) { slices.SortFunc(list, comparePrograms) }

// programs checks a stage's, packages against those that the build's lock pins.
func (c *checker) programs(at string, p *Programs, inputs []Resource) {
	if p == nil {
		return
	}
	if p.List == nil {
		c.odd(at+".list", "missing")
	}
	if !slices.IsSortedFunc(p.List, comparePrograms) {
		c.odd(at+".list", "is not sorted by path, digest and origin")
	}
	for i, prog := range p.List {
		at := fmt.Sprintf("%s.list[%d]", at, i)
		if !strings.HasPrefix(prog.Path, "/") {
			c.odd(at+".path", "is %q, expected an absolute path", prog.Path)
		}
		c.oneOf(at+".from", prog.From, FromPackage, FromImage, FromStage, FromSource, FromMade)
		if prog.From != FromMade || prog.Digest != (Digest{}) {
			c.digest(at+".digest.sha256", prog.Digest.SHA256)
		}
		switch prog.From {
		case FromPackage:
			if !slices.ContainsFunc(inputs, func(r Resource) bool { return r.URI == prog.Of }) {
				c.odd(at+".of", "is %q, which is none of resolvedDependencies", prog.Of)
			}
		case FromStage, FromSource:
			c.given(at+".of", prog.Of)
		case FromImage, FromMade:
			c.is(at+".of", prog.Of, "")
		}
		if prog.Runs < 1 {
			c.odd(at+".runs", "is %d, expected at least 1", prog.Runs)
		}
	}
}
