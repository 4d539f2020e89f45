package specs

// kind is what a node of YAML or JSON is.
type kind string

const (
	kindNull   kind = "nothing"
	kindBool   kind = "a boolean"
	kindInt    kind = "a number"
	kindFloat  kind = "a number with a point"
	kindString kind = "a string"
	kindList   kind = "a list"
	kindMap    kind = "a mapping"
)

// node is a value of a document with the place where it stands. YAML and JSON are both read into nodes,
// so that one decoder is strict in one way about both.
type node struct {
	kind  kind
	at    position
	text  string         // of a scalar: as written, a string's quotes and escapes undone
	list  []*node        // of a list
	keys  []member       // of a mapping, in the order of the file
	index map[string]int // of a mapping: where in keys
}

type member struct {
	key   string
	at    position
	value *node
}

// add appends a member to a mapping and reports whether its key is new.
func (n *node) add(m member) bool {
	if _, twice := n.index[m.key]; twice {
		return false
	}
	if n.index == nil {
		n.index = map[string]int{}
	}
	n.index[m.key] = len(n.keys)
	n.keys = append(n.keys, m)
	return true
}

// get is the node at the end of a path through mappings (string) and lists (int); nil if there is none.
func (n *node) get(path ...any) *node {
	for _, step := range path {
		if n == nil {
			return nil
		}
		n = n.step(step)
	}
	return n
}

func (n *node) step(step any) *node {
	switch s := step.(type) {
	case string:
		if i, ok := n.index[s]; ok {
			return n.keys[i].value
		}
	case int:
		if s < len(n.list) {
			return n.list[s]
		}
	}
	return nil
}

// pathString writes a path as messages show it: stages[0].needs[1].
func pathString(path []any) string {
	var s string
	for _, step := range path {
		switch v := step.(type) {
		case string:
			s = child(s, v)
		case int:
			s = element(s, v)
		}
	}
	return s
}
