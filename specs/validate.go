package specs

import (
	"net/url"
	"regexp"
	"slices"
)

// The syntax of the words in a spec. The JSON Schema repeats them, so that an editor says the same as this package.
const (
	NamePattern     = `^[a-z0-9][a-z0-9._+-]*$`                          // of guests, sources, stages, smoke tests
	SpecNamePattern = `^[a-z0-9][a-z0-9._+-]*(/[a-z0-9][a-z0-9._+-]*)*$` // of specs: such names, in folders
	NeedPattern     = `^(.+#)?[a-z0-9][a-z0-9._+-]*$`                    // of needs: a stage, of another spec or not
	FilePattern     = `^[A-Za-z0-9][A-Za-z0-9._+-]*$`                    // of artifacts: a file name
	PackagePattern  = `^[a-z0-9][a-z0-9+.-]+$`                           // deb-control(5), Package
	VersionPattern  = `^([0-9]+:)?[0-9][A-Za-z0-9.+~-]*$`                // deb-version(7)
	SHA256Pattern   = `^[0-9a-f]{64}$`                                   //
	CommitPattern   = `^([0-9a-f]{40}|[0-9a-f]{64})$`                    // SHA-1 or SHA-256: git hash-object
	MachinePattern  = `^[a-z0-9][a-z0-9-]*-[0-9]+\.[0-9]+(\.[0-9]+)?$`   // a machine type with a version
	CPUPattern      = `^[A-Za-z0-9][A-Za-z0-9_-]*-v[0-9]+$`              // a CPU model with a version
	VariablePattern = `^[A-Za-z_][A-Za-z0-9_]*$`                         // POSIX, Base Definitions, 8.1
	SuitePattern    = `^[a-z][a-z0-9-]*$`                                //
	SnapshotPattern = `^[0-9]{8}T[0-9]{6}Z$`                             // snapshot.debian.org's time stamps
)

var (
	nameSyntax     = regexp.MustCompile(NamePattern)
	specNameSyntax = regexp.MustCompile(SpecNamePattern)
	fileSyntax     = regexp.MustCompile(FilePattern)
	packageSyntax  = regexp.MustCompile(PackagePattern)
	versionSyntax  = regexp.MustCompile(VersionPattern)
	sha256Syntax   = regexp.MustCompile(SHA256Pattern)
	commitSyntax   = regexp.MustCompile(CommitPattern)
	machineSyntax  = regexp.MustCompile(MachinePattern)
	cpuSyntax      = regexp.MustCompile(CPUPattern)
	variableSyntax = regexp.MustCompile(VariablePattern)
	suiteSyntax    = regexp.MustCompile(SuitePattern)
)

// reserved are the variables that Belljar sets in every stage and that a script relies on.
var reserved = []string{"SOURCES", "STAGES", "OUT", "HOME"}

// checker says what is wrong with a decoded document, and where.
type checker struct {
	*document
	root *node
}

// fail reports a problem with the object at the end of a path; a mapping's member is pointed at by its value.
func (c checker) fail(path []any, format string, args ...any) {
	var at position
	for i := len(path); i >= 0; i-- { // a field left out has no place: point at what it is missing from
		if n := c.root.get(path[:i]...); n != nil {
			at = n.at
			break
		}
	}
	c.errorf(at, pathString(path), format, args...)
}

func at(path ...any) []any { return path }

// match reports a word that is not of the syntax; what says in words what it should be.
func (c checker) match(path []any, word string, syntax *regexp.Regexp, what string) bool {
	if syntax.MatchString(word) {
		return true
	}
	c.fail(path, "%q is not %s", word, what)
	return false
}

func (c checker) name(path []any, name string) {
	c.match(path, name, nameSyntax, "a name: lower-case letters, digits and ._+-, starting with a letter or a digit")
}

func (c checker) specName(path []any, name string) {
	c.match(path, name, specNameSyntax,
		"a name, like rom or roms/seabios: lower-case letters, digits and ._+-, starting with a letter or a digit")
}

// unique reports a name that an element of a list before has taken.
func (c checker) unique(path []any, name string, seen map[string]bool) {
	if seen[name] {
		c.fail(path, "the name %q is there twice", name)
	}
	seen[name] = true
}

func (c checker) spec(s *Spec) {
	c.specName(at("name"), s.Name)
	c.guests(s.Guests)
	c.sources(s.Sources)
	c.stages(s)
	c.artifacts(s)
	c.smokes(s)
}

func (c checker) guests(guests []string) {
	if len(guests) == 0 {
		c.fail(at("guests"), "no guest: name one at least, like debian-bookworm-x86_64")
	}
	seen := map[string]bool{}
	for i, g := range guests {
		if !isPath(g) {
			c.name(at("guests", i), g)
		}
		c.unique(at("guests", i), g, seen)
	}
}

func (c checker) sources(sources []Source) {
	seen := map[string]bool{}
	for i, s := range sources {
		c.name(at("sources", i, "name"), s.Name)
		c.unique(at("sources", i, "name"), s.Name, seen)
		c.source(i, s)
	}
}

// source checks that a source is of exactly one kind, and that each kind has its pin and no other's.
func (c checker) source(i int, s Source) {
	kinds := []struct {
		key, value, pinKey, pin string
	}{
		{"debian", s.Debian, "version", s.Version},
		{"url", s.URL, "sha256", s.SHA256},
		{"git", s.Git, "commit", s.Commit},
	}
	found := ""
	for _, k := range kinds {
		has := c.root.get("sources", i, k.key) != nil
		pinned := c.root.get("sources", i, k.pinKey) != nil
		switch {
		case has && found != "":
			c.fail(at("sources", i, k.key), "a source is of one kind: %s or %s, not both", found, k.key)
		case has && !pinned:
			c.fail(at("sources", i, k.key), "missing: %s, which pins a %s source", k.pinKey, k.key)
		case pinned && !has:
			c.fail(at("sources", i, k.pinKey), "%q belongs to a %s source, and there is no %q", k.pinKey, k.key, k.key)
		}
		if has {
			found = k.key
		}
	}
	switch found {
	case "":
		c.fail(at("sources", i), "a source needs one of debian, url and git")
	case "debian":
		c.match(at("sources", i, "debian"), s.Debian, packageSyntax, "a Debian package name")
		if s.Version != "" || c.root.get("sources", i, "version") != nil {
			c.match(at("sources", i, "version"), s.Version, versionSyntax, "a Debian version")
		}
	case "url":
		c.url(at("sources", i, "url"), s.URL)
		if c.root.get("sources", i, "sha256") != nil {
			c.match(at("sources", i, "sha256"), s.SHA256, sha256Syntax, "a SHA-256: 64 lower-case hex digits")
		}
	case "git":
		c.url(at("sources", i, "git"), s.Git)
		if c.root.get("sources", i, "commit") != nil {
			c.match(at("sources", i, "commit"), s.Commit, commitSyntax, "a full commit: 40 or 64 lower-case hex digits")
		}
	}
}

func (c checker) url(path []any, s string) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		c.fail(path, "%q is not an https:// or http:// URL", s)
		return
	}
	if u.User != nil {
		c.fail(path, "a URL must not hold a user or a password: a spec is no place for secrets")
	}
}

func (c checker) artifacts(s *Spec) {
	if len(s.Artifacts) == 0 {
		c.fail(at("artifacts"), "no artifact: nothing would come out")
	}
	var stages []string
	for _, st := range s.Stages {
		stages = append(stages, st.Name)
	}
	seen := map[string]bool{}
	for i, a := range s.Artifacts {
		c.match(at("artifacts", i, "name"), a.Name, fileSyntax, "a file name: letters, digits and ._+-")
		c.unique(at("artifacts", i, "name"), a.Name, seen)
		k := slices.Index(stages, a.Stage)
		if k < 0 {
			c.fail(at("artifacts", i, "stage"), "there is no stage %q%s", a.Stage, suggest(a.Stage, stages))
			continue
		}
		switch outputs := s.Stages[k].Outputs; {
		case IsFolder(a.Path):
			c.fail(at("artifacts", i, "path"), "%q is a folder: an artifact is one file", a.Path)
		case !slices.Contains(outputs, a.Path):
			c.fail(at("artifacts", i, "path"), "%q is not an output of the stage %s%s",
				a.Path, a.Stage, suggest(a.Path, outputs))
		}
	}
}
