package specs

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds of a document that a person writes. They keep a hostile one from exhausting the parser's stack,
// and its time, which grows with the square of the number of keys.
const (
	maxYAMLBytes  = 256 << 10
	maxYAMLDepth  = 32
	maxYAMLValues = 8192
)

// parseYAML reads d's text (YAML 1.2) as one tree; nil if d then has problems.
// Anchors, aliases, tags, merge keys and directives are refused: a spec says what it means in place.
func (d *document) parseYAML() (root *node) {
	if len(d.data) > maxYAMLBytes {
		d.errorf(position{1, 1}, "", "the file is too long: %d bytes, at most %d", len(d.data), maxYAMLBytes)
		return nil
	}
	if !utf8.Valid(d.data) {
		d.errorf(d.positionAt(int64(invalidUTF8(d.data))), "", "the file is not UTF-8")
		return nil
	}
	// The parser is made for trees that make sense; on some that do not, it has panicked before.
	defer func() {
		if r := recover(); r != nil {
			root = nil
			d.errorf(position{1, 1}, "", "the file is not YAML that can be understood (%v)", r)
		}
	}()
	tokens := lexer.Tokenize(string(d.data))
	if !d.checkTokens(tokens) {
		return nil
	}
	file, err := parser.Parse(tokens, 0)
	if err != nil {
		d.yamlError(err)
		return nil
	}
	var body ast.Node
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil:
		case body != nil:
			d.errorf(position{tokenPosition(doc.Body.GetToken()).line, 1}, "", "a second document: a file holds one")
			return nil
		default:
			body = doc.Body
		}
	}
	if body == nil {
		d.errorf(position{1, 1}, "", "the file is empty")
		return nil
	}
	root = d.yamlNode(body, "")
	if len(d.problems) > 0 {
		return nil
	}
	return root
}

func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n <= 1 {
			return i
		}
		i += n
	}
	return len(data)
}

// refusedTokens are the parts of YAML that are not part of the spec language.
var refusedTokens = map[token.Type]string{
	token.AnchorType:     "an anchor",
	token.AliasType:      "an alias",
	token.TagType:        "a tag",
	token.MergeKeyType:   "a merge key",
	token.DirectiveType:  "a directive",
	token.MappingKeyType: "a '?' key",
}

// checkTokens refuses what the language does not have, and nesting that no spec needs.
func (d *document) checkTokens(tokens token.Tokens) bool {
	flow, entries, line, values := 0, 0, 0, 0
	var blocks []int // the columns in which the blocks around the line begin; the lexer's own count of them is not one
	for _, t := range tokens {
		if t.Position == nil {
			continue
		}
		if what, ok := refusedTokens[t.Type]; ok {
			d.errorf(tokenPosition(t), "",
				"%s is not part of this language: write the value where it is used, or quote it", what)
			return false
		}
		if t.Position.Line != line {
			line, entries = t.Position.Line, 0
			for len(blocks) > 0 && blocks[len(blocks)-1] >= t.Position.Column {
				blocks = blocks[:len(blocks)-1]
			}
			blocks = append(blocks, t.Position.Column)
		}
		switch t.Type {
		case token.MappingValueType, token.CollectEntryType:
			values++
		case token.SequenceEntryType: // '- - - -' nests on one line
			entries++
			values++
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow--
		}
		if flow > maxYAMLDepth || entries > maxYAMLDepth || len(blocks) > maxYAMLDepth {
			d.errorf(tokenPosition(t), "", "nested more than %d deep", maxYAMLDepth)
			return false
		}
		if values > maxYAMLValues {
			d.errorf(tokenPosition(t), "", "more than %d keys and elements", maxYAMLValues)
			return false
		}
	}
	return true
}

func (d *document) yamlError(err error) {
	var y yaml.Error
	if errors.As(err, &y) {
		d.errorf(tokenPosition(y.GetToken()), "", "%s", y.GetMessage())
		return
	}
	d.errorf(position{1, 1}, "", "%v", err)
}

func tokenPosition(t *token.Token) position {
	if t == nil || t.Position == nil {
		return position{1, 1}
	}
	return position{max(t.Position.Line, 1), max(t.Position.Column, 1)}
}

// yamlNode turns the parser's tree into ours.
func (d *document) yamlNode(n ast.Node, path string) *node {
	out := &node{kind: kindNull, at: position{1, 1}}
	if n == nil {
		return out
	}
	out.at = tokenPosition(n.GetToken())
	switch n := n.(type) {
	case *ast.NullNode:
	case *ast.BoolNode:
		out.kind, out.text = kindBool, fmt.Sprint(n.Value)
	case *ast.IntegerNode:
		out.kind, out.text = kindInt, n.Token.Value
	case *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		out.kind, out.text = kindFloat, n.GetToken().Value
	case *ast.StringNode:
		out.kind, out.text = kindString, n.Value
	case *ast.LiteralNode:
		out.kind, out.text = kindString, n.Value.Value
	case *ast.SequenceNode:
		out.kind = kindList
		for i, v := range n.Values {
			out.list = append(out.list, d.yamlNode(v, element(path, i)))
		}
	case ast.MapNode:
		out.kind = kindMap
		for iter := n.MapRange(); iter.Next(); {
			d.addMember(out, iter.KeyValue(), path)
		}
		if len(out.keys) > 0 {
			out.at = out.keys[0].at // the parser points at the first colon
		}
	default:
		d.errorf(out.at, path, "%s is not part of this language", n.Type().YAMLName())
	}
	return out
}

func (d *document) addMember(m *node, v *ast.MappingValueNode, path string) {
	at := tokenPosition(v.Key.GetToken())
	key, ok := v.Key.(*ast.StringNode)
	if !ok {
		d.errorf(at, path, "a key must be a string, not %s", v.Key.GetToken().Value)
		return
	}
	value := d.yamlNode(v.Value, child(path, key.Value))
	if value.kind == kindNull {
		value.at = at
	}
	if !m.add(member{key.Value, at, value}) {
		d.errorf(at, path, "the key %q is there twice", key.Value)
	}
}
