package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strings"
)

// structType is a struct of the language, as its source documents it.
type structType struct {
	name   string
	doc    string
	fields []field
}

type field struct {
	name     string // in Go
	key      string // in YAML
	typ      string // in Go
	doc      string
	optional bool
}

// readTypes reads the structs of a Go file, in its order. A struct or field without a docstring is an error:
// the reference would have a hole.
func readTypes(file string) ([]structType, error) {
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	var all []structType
	for _, decl := range f.Decls {
		g, ok := decl.(*ast.GenDecl)
		if !ok || g.Tok != token.TYPE {
			continue
		}
		for _, spec := range g.Specs {
			t := spec.(*ast.TypeSpec)
			s, ok := t.Type.(*ast.StructType)
			if !ok {
				continue
			}
			out := structType{name: t.Name.Name, doc: oneLine(g.Doc)}
			if out.doc == "" {
				return nil, fmt.Errorf("%s has no docstring", out.name)
			}
			for _, sf := range s.Fields.List {
				fd, err := readField(sf)
				if err != nil {
					return nil, fmt.Errorf("%s.%w", out.name, err)
				}
				out.fields = append(out.fields, fd)
			}
			all = append(all, out)
		}
	}
	return all, nil
}

func readField(f *ast.Field) (field, error) {
	name := f.Names[0].Name
	if f.Tag == nil {
		return field{}, fmt.Errorf("%s has no tag", name)
	}
	tag := reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("yaml")
	key, options, _ := strings.Cut(tag, ",")
	doc := oneLine(f.Doc)
	if doc == "" {
		return field{}, fmt.Errorf("%s has no docstring", name)
	}
	return field{name: name, key: key, typ: typeString(f.Type), doc: doc, optional: options != ""}, nil
}

func typeString(e ast.Expr) string {
	switch t := e.(type) {
	case *ast.Ident:
		return t.Name
	case *ast.SelectorExpr:
		return typeString(t.X) + "." + t.Sel.Name
	case *ast.StarExpr:
		return typeString(t.X)
	case *ast.ArrayType:
		return "[]" + typeString(t.Elt)
	case *ast.MapType:
		return "map[" + typeString(t.Key) + "]" + typeString(t.Value)
	}
	return "?"
}

func oneLine(g *ast.CommentGroup) string { return strings.Join(strings.Fields(g.Text()), " ") }
