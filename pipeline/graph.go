package pipeline

import (
	"slices"
	"strings"

	"github.com/belljar/belljar/specs"
)

// node is a stage of a build's graph: one of the asked spec, or one that it needs, of whatever spec.
type node struct {
	*jar
	stage  *specs.Stage
	needs  []*node // in the order of the stage's needs
	id     string  // its identity
	must   bool    // it is to be run, for what it made before is not known
	result *stageResult
}

// name is the stage's in this build: that of another spec's begins with that spec's name.
func (n *node) name() string {
	if n.plan == n.asked.plan {
		return n.stage.Name
	}
	return n.loaded.Spec.Name + "#" + n.stage.Name
}

// fileName is the name in a form that can be a file's; no other stage of the build has the same, for @ is in no name.
func (n *node) fileName() string { return flat(n.name()) }

func flat(name string) string { return strings.NewReplacer("/", "@", "#", "@").Replace(name) }

// grow makes the graph of the asked spec: all its stages, those of other specs that they need, and so on; each after
// those that it needs, otherwise in the order of its spec. The specs have been checked: names are known and there is no
// cycle.
func (j *job) grow() {
	known := map[*specs.Stage]*node{}
	var visit func(p *plan, s *specs.Stage) *node
	visit = func(p *plan, s *specs.Stage) *node {
		if known[s] != nil {
			return known[s]
		}
		n := &node{jar: j.jar(p), stage: s}
		known[s] = n
		for _, entry := range s.Needs {
			of, need := p.loaded.Need(entry)
			from := p
			if of != p.loaded {
				from = p.needed[of.Spec.Name]
			}
			n.needs = append(n.needs, visit(from, need))
		}
		n.identify()
		j.nodes = append(j.nodes, n)
		return n
	}
	for i := range j.asked.loaded.Spec.Stages {
		visit(j.asked.plan, &j.asked.loaded.Spec.Stages[i])
	}
}

// own are the nodes of the asked spec.
func (j *job) own() []*node {
	return slices.DeleteFunc(slices.Clone(j.nodes), func(n *node) bool { return n.plan != j.asked.plan })
}

// stage is the asked spec's stage of that name.
func (j *job) stage(name string) *node {
	for _, n := range j.own() {
		if n.stage.Name == name {
			return n
		}
	}
	panic("pipeline: no stage " + name) // the spec has been checked
}

// recall looks every stage up by its identity, and so finds out which must be run: those of which nothing is known, and
// those whose outputs are wanted (by the user, or by a stage that must be run) and have gone from the store.
func (j *job) recall() error {
	if err := j.checkRerun(); err != nil {
		return err
	}
	wanted := map[*node]bool{}
	for _, n := range j.own() {
		wanted[n] = true
	}
	for _, n := range slices.Backward(j.nodes) {
		known, whole, err := j.knownStage(n.id)
		if err != nil {
			return err
		}
		n.must = n.isRerun() || known == nil || wanted[n] && !whole
		if !n.must {
			n.result = known
			continue
		}
		for _, need := range n.needs {
			wanted[need] = true
		}
	}
	return nil
}

// toRun lists the nodes that must be run, in order.
func (j *job) toRun() []*node {
	return slices.DeleteFunc(slices.Clone(j.nodes), func(n *node) bool { return !n.must })
}

// firstStage is the asked spec's first stage, to look around in: of what it needs it has what is known.
func (j *job) firstStage() (*node, error) {
	n := *j.own()[0]
	n.needs = nil
	for _, need := range j.own()[0].needs {
		known, whole, err := j.knownStage(need.id)
		if err != nil {
			return nil, err
		}
		if !whole {
			j.note(PhaseStage, "stage "+need.name()+" has not been built yet: $STAGES/"+need.stage.Name+" is missing")
			continue
		}
		with := *need
		with.result = known
		n.needs = append(n.needs, &with)
	}
	return &n, nil
}
