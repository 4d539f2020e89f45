package main

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/belljar/belljar/pipeline"
)

// imageDiff lists differences by package, those of no package last. What an allow-list explains is left out unless
// asked for.
func (p *printer) imageDiff(d *pipeline.ImageDiff, allow string, explained bool) {
	p.coloured(dim, "- "+tidy(d.A), "")
	p.coloured(dim, "+ "+tidy(d.B), "")
	shown := func(list []pipeline.ImageDifference) []pipeline.ImageDifference {
		return slices.DeleteFunc(slices.Clone(list), func(f pipeline.ImageDifference) bool {
			return f.Allowed != "" && !explained
		})
	}
	if packages := shown(d.Packages); len(packages) > 0 {
		p.coloured(bold, "packages", "")
		for _, f := range packages {
			p.difference(f, f.Package, 0)
		}
	}
	files := shown(d.Files)
	slices.SortStableFunc(files, func(a, b pipeline.ImageDifference) int {
		last := map[bool]int{true: 1}
		return cmp.Or(last[a.Package == ""]-last[b.Package == ""], strings.Compare(a.Package, b.Package))
	})
	files, below := folded(files)
	for i, f := range files {
		if i == 0 || f.Package != files[i-1].Package {
			p.coloured(bold, cmp.Or(tidy(f.Package), "of no package"), "")
		}
		p.difference(f, f.Path, below[f.Path])
	}
	for _, u := range d.Unused {
		p.coloured(yellow, fmt.Sprintf("%s:%d:", allow, u.Line), " explains nothing: %s%s %s", u.Path, u.Package,
			strings.Join(u.Differs, ", "))
	}
	p.imageDiffSum(d, allow)
}

// folded leaves out what lies in a folder that one image has not at all, and counts it.
func folded(files []pipeline.ImageDifference) (kept []pipeline.ImageDifference, below map[string]int) {
	type key struct{ path, what, pkg, allowed string }
	told, below := map[key]bool{}, map[string]int{}
	for _, f := range files {
		k := key{f.Path, f.What, f.Package, f.Allowed}
		if f.What != "added" && f.What != "removed" {
			kept = append(kept, f)
			continue
		}
		at := k
		for at.path != "/" && at.path != "." && !told[at] {
			at.path = path.Dir(at.path)
		}
		if told[at] {
			below[at.path]++
			continue
		}
		told[k] = true
		kept = append(kept, f)
	}
	return kept, below
}

// difference prints one difference, with + - ~ for added, removed and changed.
func (p *printer) difference(f pipeline.ImageDifference, name string, below int) {
	mark, sgr, text := "~", yellow, ""
	none := func(s string) string { return cmp.Or(tidy(s), "none") }
	switch {
	case f.What == "added":
		mark, sgr, text = "+", green, tidy(f.B)
	case f.What == "removed":
		mark, sgr, text = "-", red, tidy(f.A)
	case f.What == "content" && f.Detail != "":
		text = "content: " + tidy(f.Detail)
	default:
		text = f.What + ": " + none(f.A) + ", " + none(f.B)
	}
	if below > 0 {
		text += fmt.Sprintf(", and %d more in it", below)
	}
	p.coloured(sgr, "  "+mark+" "+tidy(name), "  %s", text)
	if f.Allowed != "" {
		p.coloured(dim, "      "+tidy(strings.ReplaceAll(f.Allowed, "\n", " ")), "")
	}
}

func (p *printer) imageDiffSum(d *pipeline.ImageDiff, allow string) {
	text := fmt.Sprintf("%s compared, %s of content", plural(d.Paths, "path"), bytesText(d.Bytes))
	if d.Explained > 0 {
		text += fmt.Sprintf("; %s explained by %s", plural(d.Explained, "difference"), allow)
	}
	left := len(d.Packages) + len(d.Files) - d.Explained
	switch {
	case d.Same:
		p.coloured(green, "the same", ": %s", text)
	case left == 0:
		p.coloured(red, "the allow-list explains more than there is", ": %s", text)
	default:
		p.coloured(red, plural(left, "difference"), ": %s", text)
	}
}
