package specs

import (
	"slices"
	"strings"
)

// Need is an entry of a stage's needs, taken apart: STAGE, or SPEC#STAGE for a stage of another spec.
type Need struct {
	Spec  string // as the entry names it: a shipped name, or a path relative to the spec's own file; empty: the same spec
	Stage string
}

// ParseNeed takes an entry apart. The last # counts, for a path may have one in it; a stage's name has none.
func ParseNeed(entry string) Need {
	i := strings.LastIndexByte(entry, '#')
	if i < 0 {
		return Need{Stage: entry}
	}
	return Need{Spec: entry[:i], Stage: entry[i+1:]}
}

// Need finds the spec and the stage that an entry of this spec's needs means.
func (l *Loaded) Need(entry string) (*Loaded, *Stage) {
	n, of := ParseNeed(entry), l
	if n.Spec != "" {
		of = l.Needed[l.needRefs[n.Spec]]
	}
	return of, of.Spec.Stage(n.Stage)
}

// Stage is the stage of that name; nil if there is none.
func (s *Spec) Stage(name string) *Stage {
	for i := range s.Stages {
		if s.Stages[i].Name == name {
			return &s.Stages[i]
		}
	}
	return nil
}

// named is the spec with each need of another spec's stage under that spec's own name: the same spec elsewhere is the
// same need.
func (l *Loaded) named() *Spec {
	if len(l.needRefs) == 0 {
		return l.Spec
	}
	s := *l.Spec
	s.Stages = slices.Clone(s.Stages)
	for i := range s.Stages {
		needs := slices.Clone(s.Stages[i].Needs)
		for j, entry := range needs {
			if n := ParseNeed(entry); n.Spec != "" {
				needs[j] = l.needRefs[n.Spec] + "#" + n.Stage
			}
		}
		s.Stages[i].Needs = needs
	}
	return &s
}
