package pipeline

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/image/debian"
)

// Explanation says what a build would run, and why.
type Explanation struct {
	Spec   string           `json:"spec"`
	Guest  string           `json:"guest"`
	Known  bool             `json:"known"` // the whole build: it would be answered without a machine
	Stages []ExplainedStage `json:"stages"`
}

// ExplainedStage is a stage of the graph.
type ExplainedStage struct {
	Name     string        `json:"name"` // STAGE, or SPEC#STAGE of a needed spec
	Identity string        `json:"identity"`
	Cached   bool          `json:"cached"`
	Reason   string        `json:"reason"`
	Changes  []InputChange `json:"changes,omitempty"` // since it was last built, where it must run
	Made     time.Time     `json:"made,omitzero"`     // when what is known of it was made
}

// lastKind binds a stage of a spec in a guest to the identity under which it was built or imported last.
const lastKind = "laststages"

func (n *node) lastKey() string { return n.of().key() }

func (s stageName) key() string { return s.String() + " " + s.Guest }

// Explain says for each stage of a build whether it is known or must run, and in the latter case which of its inputs
// changed since it was last built. It runs nothing.
func Explain(ctx context.Context, cfg Config, o BuildOptions) (*Explanation, error) {
	h, p, release, err := begin(cfg, o.Spec, o.Lock, o.Guest)
	if err != nil {
		return nil, err
	}
	defer release()
	j, err := h.newJob(ctx, p, o, time.Now())
	if err != nil {
		return nil, err
	}
	if err := j.recall(); err != nil {
		return nil, err
	}
	x := &Explanation{Spec: p.loaded.Spec.Name, Guest: p.guest.Name, Stages: []ExplainedStage{}}
	if !j.rerun() {
		var known knownBuild
		if x.Known, err = h.store.Lookup("builds", j.id, &known); err != nil {
			return nil, err
		}
		x.Known = x.Known && len(j.toRun()) == 0
	}
	for _, n := range j.nodes {
		e, err := n.explain()
		if err != nil {
			return nil, err
		}
		x.Stages = append(x.Stages, e)
	}
	return x, nil
}

func (n *node) explain() (ExplainedStage, error) {
	e := ExplainedStage{Name: n.name(), Identity: n.id, Cached: !n.must}
	known, whole, err := n.knownStage(n.id)
	if err != nil {
		return e, err
	}
	if known != nil {
		e.Made = known.Made
	}
	switch {
	case known == nil:
		e.Changes, err = n.changes()
		e.Reason = cmp.Or(reasons(e.Changes), "it was never built in this guest")
	case n.must && n.isRerun():
		e.Reason = "asked for with --no-cache"
	case n.must:
		e.Reason = "what it made has gone from the store"
	case !whole:
		e.Reason = "nothing changed; what it made has gone from the store, and nothing that is run needs it"
	default:
		e.Reason = "nothing changed"
	}
	return e, err
}

func reasons(changes []InputChange) string {
	var all []string
	for _, c := range changes {
		all = append(all, c.String())
	}
	if len(all) > 3 {
		all = append(all[:2], "and more")
	}
	return strings.Join(all, "; ")
}

// changes are what differs from the stage as it was last built; nil where it never was.
func (n *node) changes() ([]InputChange, error) {
	var last string
	ok, err := n.store.Lookup(lastKind, n.lastKey(), &last)
	if err != nil || !ok {
		return nil, err
	}
	before, _, err := n.knownStage(last)
	if err != nil || before == nil {
		return nil, err
	}
	if all := before.Inputs.changed(n.inputs()); len(all) > 0 {
		return all, nil
	}
	return []InputChange{{Part: "identity", Old: short(last), New: short(n.id)}}, nil
}

// rerun says that something is to be run even if it is known.
func (j *job) rerun() bool { return j.opts.NoCache || len(j.opts.Rerun) > 0 }

// isRerun says that this stage is.
func (n *node) isRerun() bool {
	return n.opts.NoCache || slices.ContainsFunc(n.opts.Rerun, n.answersTo)
}

// answersTo says whether a user's name for a stage means this one: its name in the build, or the whole SPEC#STAGE.
func (n *node) answersTo(name string) bool {
	return name == n.name() || name == n.loaded.Spec.Name+"#"+n.stage.Name
}

// checkRerun refuses the name of a stage that the build does not have.
func (j *job) checkRerun() error {
	for _, name := range j.opts.Rerun {
		if slices.ContainsFunc(j.nodes, func(n *node) bool { return n.answersTo(name) }) {
			continue
		}
		var names []string
		for _, n := range j.nodes {
			names = append(names, n.name())
		}
		e := fault.New(fault.Usage, "", "--no-cache=%s: the build has no such stage", name)
		if near := debian.Nearest(name, names, 1); len(near) > 0 {
			return e.WithRemedy("did you mean %s? Its stages: %s", near[0], strings.Join(names, ", "))
		}
		return e.WithRemedy("its stages: %s", strings.Join(names, ", "))
	}
	return nil
}
