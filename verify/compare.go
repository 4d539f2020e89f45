package verify

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Claim is the SHA-256 of what every rebuilder must arrive at: subjects, buildDefinition and belljar_build. Two
// records with the same claim say the same.
func (r *Record) Claim() string {
	data, err := encode(struct {
		Subject         []Resource      `json:"subject"`
		BuildDefinition BuildDefinition `json:"buildDefinition"`
		BuildEvidence   BuildEvidence   `json:"belljar_build"`
	}{r.Subject, r.Predicate.BuildDefinition, r.Predicate.BuildEvidence})
	if err != nil {
		panic(err) // strings and numbers always encode
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// Difference is one thing in which two records differ. A or B is empty where one record has nothing.
type Difference struct {
	Field    string `json:"field"` // path in the JSON, with names in brackets instead of numbers
	A        string `json:"a"`
	B        string `json:"b"`
	Sentence string `json:"sentence"`
}

// Compare lists in what a and b differ, of that which every rebuilder must arrive at: results first, then what may
// have caused them. When they run, where, and how fast is no difference. No difference: the claims are the same.
func Compare(a, b *Record) []Difference {
	var d differences
	d.resources("subject", "artifact", a.Subject, b.Subject)
	da, db := a.Predicate.BuildDefinition, b.Predicate.BuildDefinition
	ext := "buildDefinition.externalParameters"
	d.text("buildDefinition.buildType", "the build type", da.BuildType, db.BuildType)
	d.resource(ext+".spec", "spec", da.ExternalParameters.Spec, db.ExternalParameters.Spec)
	d.text(ext+".guest", "the guest", da.ExternalParameters.Guest, db.ExternalParameters.Guest)
	d.resource("buildDefinition.internalParameters.lock", "lock",
		da.InternalParameters.Lock, db.InternalParameters.Lock)
	d.resources("buildDefinition.internalParameters.neededLocks", "lock",
		da.InternalParameters.NeededLocks, db.InternalParameters.NeededLocks)
	d.machine("buildDefinition.internalParameters.machine",
		da.InternalParameters.Machine, db.InternalParameters.Machine)
	d.resources("buildDefinition.resolvedDependencies", "input", da.ResolvedDependencies, db.ResolvedDependencies)
	ea, eb := a.Predicate.BuildEvidence, b.Predicate.BuildEvidence
	d.resources("belljar_build.image", "image", ea.Image, eb.Image)
	d.resources("belljar_build.neededImages", "image", ea.NeededImages, eb.NeededImages)
	d.resource("belljar_build.agent", "agent", ea.Agent, eb.Agent)
	d.stages(ea.Stages, eb.Stages)
	return d.all
}

type differences struct{ all []Difference }

func (d *differences) text(field, what, a, b string) {
	if a != b {
		sentence := fmt.Sprintf("%s differs: %s against %s", what, cmp.Or(a, "none"), cmp.Or(b, "none"))
		d.all = append(d.all, Difference{field, a, b, sentence})
	}
}

func (d *differences) resource(field, what string, a, b Resource) {
	d.text(field+".name", "the name of the "+what, a.Name, b.Name)
	d.text(field+".digest", "the "+what+" "+a.Name, a.Digest.SHA256, b.Digest.SHA256)
	d.text(field+".uri", "the place of the "+what+" "+a.Name, a.URI, b.URI)
	d.text(field+".annotations", "the annotations of the "+what+" "+a.Name, annotations(a), annotations(b))
}

// annotations in one line; fmt prints maps sorted.
func annotations(r Resource) string {
	if len(r.Annotations) == 0 {
		return ""
	}
	return fmt.Sprint(r.Annotations)
}

// resources pairs two sorted lists by name and reports what only one has.
func (d *differences) resources(field, what string, a, b []Resource) {
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].Name < b[0].Name:
			d.only(field, what, a[0], "first", a[0].Digest.SHA256, "")
			a = a[1:]
		case len(a) == 0 || b[0].Name < a[0].Name:
			d.only(field, what, b[0], "second", "", b[0].Digest.SHA256)
			b = b[1:]
		default:
			d.resource(fmt.Sprintf("%s[%s]", field, a[0].Name), what, a[0], b[0])
			a, b = a[1:], b[1:]
		}
	}
}

func (d *differences) only(field, what string, r Resource, which, a, b string) {
	d.all = append(d.all, Difference{fmt.Sprintf("%s[%s]", field, r.Name), a, b,
		fmt.Sprintf("the %s %s is in the %s record alone", what, r.Name, which)})
}

func (d *differences) machine(field string, a, b Machine) {
	for _, p := range []struct{ key, what, a, b string }{
		{"arch", "architecture", a.Arch, b.Arch},
		{"type", "type", a.Type, b.Type},
		{"cpu", "CPU model", a.CPU, b.CPU},
		{"cpus", "number of CPUs", strconv.Itoa(a.CPUs), strconv.Itoa(b.CPUs)},
		{"memory", "memory in bytes", strconv.FormatInt(a.Memory, 10), strconv.FormatInt(b.Memory, 10)},
		{"clock", "clock at power-on", a.Clock.Format(time.RFC3339Nano), b.Clock.Format(time.RFC3339Nano)},
		{"network", "network", a.Network, b.Network},
	} {
		d.text(field+"."+p.key, "the machine's "+p.what, p.a, p.b)
	}
}

// stages are compared in their order, because the order of a build is part of it.
func (d *differences) stages(a, b []Stage) {
	names := func(ss []Stage) (all []string) {
		for _, s := range ss {
			all = append(all, s.Name)
		}
		return all
	}
	if na, nb := names(a), names(b); !slices.Equal(na, nb) {
		d.text("belljar_build.stages", "the list of stages", fmt.Sprint(na), fmt.Sprint(nb))
		return
	}
	for i := range a {
		at := fmt.Sprintf("belljar_build.stages[%s]", a[i].Name)
		d.text(at+".identity", "what may influence the stage "+a[i].Name, a[i].Identity, b[i].Identity)
		d.resources(at+".outputs", "output of stage "+a[i].Name+":", a[i].Outputs, b[i].Outputs)
	}
}
