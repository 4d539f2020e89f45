package debian

import (
	"strings"

	"github.com/belljar/belljar/fault"
)

// checkPreDepends looks for packages that Pre-Depend on each other in a circle. Of a circle of Depends dpkg breaks one
// arrow; a package that Pre-Depends waits until the other is configured (Policy 7.2), and here that is for ever.
func (r *resolver) checkPreDepends(c *Closure) error {
	const (
		open = iota + 1
		done
	)
	state := map[*Chosen]int{}
	type step struct {
		of   *Chosen
		next int // of its Pre-Depends
	}
	for _, root := range c.Packages {
		if state[root] != 0 {
			continue
		}
		state[root] = open
		for path := []step{{of: root}}; len(path) > 0; { // not a recursion: a chain may be as long as the index
			top := &path[len(path)-1]
			if top.next == len(top.of.PreDepends) {
				state[top.of] = done
				path = path[:len(path)-1]
				continue
			}
			p := r.chosen[top.of.PreDepends[top.next]]
			top.next++
			switch state[p] {
			case 0:
				state[p] = open
				path = append(path, step{of: p})
			case open:
				var names []string
				for _, s := range path {
					if s.of == p || names != nil {
						names = append(names, s.of.Name)
					}
				}
				return preDependsCircle(append(names, p.Name), p, r.idx)
			}
		}
	}
	return nil
}

func preDependsCircle(names []string, p *Chosen, idx *Index) error {
	const most = 12
	shown := strings.Join(names, " → ")
	if len(names) > most {
		shown = strings.Join(names[:most-1], " → ") + " → … → " + names[len(names)-1]
	}
	return fault.New(fault.Input, "resolve packages", "%s: these packages Pre-Depend on each other in a circle, so that "+
		"none can be configured first", shown).
		WithEvidence("wanted by", p.Why).
		WithRemedy("Use another version of one of them, or another suite: in %s they cannot be installed.", idx.Suite)
}
