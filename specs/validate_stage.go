package specs

import (
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
)

func (c checker) stages(spec *Spec) {
	stages := spec.Stages
	if len(stages) == 0 {
		c.fail(at("stages"), "no stage: nothing would be built")
	}
	seen := map[string]bool{}
	var names []string
	for i, s := range stages {
		c.name(at("stages", i, "name"), s.Name)
		c.unique(at("stages", i, "name"), s.Name, seen)
		names = append(names, s.Name)
	}
	var sources []string
	for _, s := range spec.Sources {
		sources = append(sources, s.Name)
	}
	for i, s := range stages {
		c.stage(i, s, names, sources)
	}
	c.cycles(stages)
}

func (c checker) stage(i int, s Stage, names, sources []string) {
	needed := map[string]bool{}
	for j, n := range s.Needs {
		if strings.ContainsRune(n, '#') {
			c.need(at("stages", i, "needs", j), n)
		} else if !slices.Contains(names, n) {
			c.fail(at("stages", i, "needs", j), "there is no stage %q%s", n, suggest(n, names))
		}
		c.unique(at("stages", i, "needs", j), n, needed)
	}
	c.folders(i, s.Needs)
	c.stageSources(i, s.Sources, sources)
	c.packages(at("stages", i, "packages"), s.Packages)
	for _, k := range sortedKeys(s.Env) {
		path := at("stages", i, "env", k)
		c.match(path, k, variableSyntax, "a variable's name")
		if slices.Contains(reserved, k) {
			c.fail(path, "%s is set by Belljar", k)
		}
		c.noNUL(path, s.Env[k])
	}
	if strings.TrimSpace(s.Script) == "" {
		c.fail(at("stages", i, "script"), "the script is empty")
	}
	c.noNUL(at("stages", i, "script"), s.Script)
	c.makes(i, s.Makes)
	if s.Memory != 0 {
		c.size(at("stages", i, "memory"), s.Memory, leastMemory)
	}
	if s.Scratch != "" && s.Scratch != ScratchTmpfs {
		c.fail(at("stages", i, "scratch"), "%q is no place for a stage's files: %s or %s", s.Scratch, ScratchDisk, ScratchTmpfs)
	}
	c.outputs(i, s.Outputs)
}

// makes checks patterns of programs: they are held against the end of a path.
func (c checker) makes(i int, patterns []string) {
	seen := map[string]bool{}
	for j, p := range patterns {
		where := at("stages", i, "makes", j)
		if _, err := path.Match(p, ""); err != nil || p == "" || strings.HasPrefix(p, "/") || path.Clean(p) != p || strings.HasPrefix(p, "..") {
			c.fail(where, "%q is not a pattern of the last parts of a path, like conftest* or kconfig/conf", p)
		}
		c.unique(where, p, seen)
	}
}

// stageSources checks the sources that a stage says it sees.
func (c checker) stageSources(i int, names, sources []string) {
	seen := map[string]bool{}
	for j, n := range names {
		where := at("stages", i, "sources", j)
		if !slices.Contains(sources, n) {
			c.fail(where, "there is no source %q%s", n, suggest(n, sources))
		}
		c.unique(where, n, seen)
	}
}

func (c checker) noNUL(path []any, s string) {
	if strings.ContainsRune(s, 0) {
		c.fail(path, "a NUL byte cannot be passed to a program")
	}
}

func (c checker) packages(path []any, packages []string) {
	seen := map[string]bool{}
	for j, p := range packages {
		where := append(slices.Clip(path), j)
		c.match(where, p, packageSyntax, "a Debian package name")
		c.unique(where, p, seen)
	}
}

// IsFolder tells an output that is a whole folder from a file.
func IsFolder(output string) bool { return strings.HasSuffix(output, "/") }

// IsOutput reports whether a path could be that of an output, as output checks it.
func IsOutput(p string) bool {
	p = strings.TrimSuffix(p, "/")
	return p != "" && p != "." && path.Clean(p) == p && filepath.IsLocal(p) && !strings.ContainsFunc(p, unicode.IsControl)
}

// outputs checks that each byte is handed over once.
func (c checker) outputs(i int, outputs []string) {
	seen := map[string]bool{}
	for j, o := range outputs {
		where := at("stages", i, "outputs", j)
		path := strings.TrimSuffix(o, "/")
		c.output(where, path)
		c.unique(where, path, seen)
		for _, folder := range outputs {
			if IsFolder(folder) && o != folder && strings.HasPrefix(o, folder) {
				c.fail(where, "%q is handed over with the folder %q", o, folder)
			}
		}
	}
}

// output checks that a path stays below $OUT and has one way to be written.
func (c checker) output(where []any, p string) {
	switch {
	case strings.HasPrefix(p, "/"):
		c.fail(where, "%q is absolute: outputs are relative to $OUT", p)
	case p == ".." || strings.HasPrefix(p, "../") || strings.Contains(p, "/../") || strings.HasSuffix(p, "/.."):
		c.fail(where, "%q climbs out of $OUT", p)
	case p == "" || p == "." || path.Clean(p) != p:
		c.fail(where, "%q is not a plain relative path, like build/rom.bin", p)
	case strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f }):
		c.fail(where, "%q has a control character", p)
	}
}

// cycles reports the first stage that needs itself by way of others, with the way.
func (c checker) cycles(stages []Stage) {
	index := map[string]int{}
	for i, s := range stages {
		index[s.Name] = i
	}
	state := make([]int, len(stages)) // 0 unseen, 1 on the way, 2 done
	var way []string
	var visit func(i int) bool
	visit = func(i int) bool {
		state[i] = 1
		way = append(way, stages[i].Name)
		for j, n := range stages[i].Needs {
			k, ok := index[n]
			switch {
			case ok && state[k] == 1:
				ring := append(way[slices.Index(way, stages[k].Name):], n)
				c.fail(at("stages", i, "needs", j), "stages need each other in a ring: %s",
					strings.Join(ring, " needs "))
				return false
			case ok && state[k] == 0 && !visit(k):
				return false
			}
		}
		way = way[:len(way)-1]
		state[i] = 2
		return true
	}
	for i := range stages {
		if state[i] == 0 && !visit(i) {
			return
		}
	}
}

// need checks the form of an entry of another spec. Whether there is such a spec, Load finds out.
func (c checker) need(where []any, entry string) {
	n := ParseNeed(entry)
	switch {
	case n.Spec == "":
		c.fail(where, "%q names no spec: write SPEC#STAGE, or STAGE for one of this spec's own", entry)
	case !isPath(n.Spec):
		c.specName(where, n.Spec)
	}
	c.name(where, n.Stage)
}

// folders reports two needs whose outputs would lie in one folder.
func (c checker) folders(i int, needs []string) {
	taken := map[string]string{}
	for j, entry := range needs {
		stage := ParseNeed(entry).Stage
		if other := taken[stage]; other != "" && other != entry {
			c.fail(at("stages", i, "needs", j), "the outputs of %s and of %s would both lie in $STAGES/%s", other, entry, stage)
		}
		taken[stage] = entry
	}
}
