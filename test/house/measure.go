// Package house measures how the code reads. Its test holds the figures to
// bounds, which CONTRIBUTING.md names.
package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode/utf8"
)

// What the figures count.
const (
	widest        = 120 // columns of a line
	tabWidth      = 4   // columns
	paragraphs    = 20  // lines from which on a function has a blank one
	longest       = 60  // lines of a function
	fullLiteral   = 4   // keyed fields from which on a literal has one on each line
	mostBranches  = 20  // cyclomatic complexity of a function
	mostArguments = 5   // parameters of a function
)

// pronouns stand where the thing itself could be named.
var pronouns = regexp.MustCompile(`(?i)\b(nobody|whoever|somebody)\b`)

// figures are the measurements of some files, with the places that count against
// them, as "file:line: what".
type figures struct {
	lines     int
	functions int // of at least paragraphs lines
	literals  int // of at least fullLiteral keyed fields

	wide       []string // lines over widest
	unbroken   []string // functions of at least paragraphs lines without a blank one
	packed     []string // literals of at least fullLiteral fields with several on a line
	long       []string // functions over longest
	branching  []string // functions over mostBranches
	parameters []string // functions over mostArguments
	bools      []string // parameters that are true or false
	pronouns   []string
	mainNames  map[string]string // the place of each package-level name in cmd/pullgate
}

// measure reads the Go files below the directories of root that are neither
// tests nor generated.
func measure(root string, directories ...string) (*figures, error) {
	f := &figures{mainNames: make(map[string]string)}
	for _, directory := range directories {
		err := filepath.WalkDir(filepath.Join(root, directory), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			name, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			return f.add(filepath.ToSlash(name), string(text))
		})
		if err != nil {
			return nil, err
		}
	}
	return f, nil
}

// file is one file that is being measured.
type file struct {
	*figures
	name  string
	set   *token.FileSet
	lines []string // the first is lines[0]
}

// add measures one file.
func (f *figures) add(name, text string) error {
	set := token.NewFileSet()
	tree, err := parser.ParseFile(set, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	if ast.IsGenerated(tree) {
		return nil
	}

	one := &file{figures: f, name: name, set: set, lines: strings.Split(text, "\n")}
	one.text()
	ast.Inspect(tree, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CompositeLit:
			one.literal(n)
		case *ast.FuncDecl:
			one.function(n)
			one.signature(n.Name.Name, n.Type)
		case *ast.FuncLit:
			one.signature("a function literal", n.Type)
		}
		return true
	})
	if filepath.ToSlash(filepath.Dir(name)) == "cmd/pullgate" && tree.Name.Name == "main" {
		one.names(tree)
	}
	return nil
}

func (f *file) line(at token.Pos) int { return f.set.Position(at).Line }

func (f *file) place(line int, format string, args ...any) string {
	return fmt.Sprintf("%s:%d: %s", f.name, line, fmt.Sprintf(format, args...))
}

// text measures the lines.
func (f *file) text() {
	f.figures.lines += len(f.lines)
	for i, line := range f.lines {
		columns := utf8.RuneCountInString(line) + (tabWidth-1)*strings.Count(line, "\t")
		if columns > widest {
			f.wide = append(f.wide, f.place(i+1, "%d columns", columns))
		}
		for _, word := range pronouns.FindAllString(line, -1) {
			f.pronouns = append(f.pronouns, f.place(i+1, "%s", word))
		}
	}
}

// literal measures a composite literal: its keyed fields each have their line.
func (f *file) literal(n *ast.CompositeLit) {
	fields, shared := 0, false
	last := 0
	for _, e := range n.Elts {
		pair, ok := e.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		if _, ok := pair.Key.(*ast.Ident); !ok {
			continue
		}
		line := f.line(pair.Pos())
		fields, shared = fields+1, shared || line == last
		last = line
	}

	if fields < fullLiteral {
		return
	}
	f.literals++
	if shared {
		f.packed = append(f.packed, f.place(f.line(n.Pos()), "%d fields", fields))
	}
}

// function measures the body of a declared function, literals in it included.
func (f *file) function(n *ast.FuncDecl) {
	if n.Body == nil {
		return
	}
	first, last := f.line(n.Body.Lbrace), f.line(n.Body.Rbrace)

	if last-first >= longest {
		f.long = append(f.long, f.place(first, "%s has %d lines", n.Name.Name, last-first+1))
	}
	if last-first >= paragraphs {
		f.functions++
		if !f.blankBetween(first, last) {
			f.unbroken = append(f.unbroken, f.place(first, "%s has %d lines", n.Name.Name, last-first+1))
		}
	}
	if branches := complexity(n.Body); branches > mostBranches {
		f.branching = append(f.branching, f.place(first, "%s has a complexity of %d", n.Name.Name, branches))
	}
}

// blankBetween reports whether a blank line is between two lines.
func (f *file) blankBetween(first, last int) bool {
	for _, line := range f.lines[first : last-1] {
		if strings.TrimSpace(line) == "" {
			return true
		}
	}
	return false
}

// complexity is the cyclomatic complexity of a body: one, and one more for each
// if, loop, case, and each && or ||.
func complexity(body *ast.BlockStmt) int {
	branches := 1
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.IfStmt, *ast.ForStmt, *ast.RangeStmt:
			branches++
		case *ast.CaseClause:
			if n.List != nil {
				branches++
			}
		case *ast.CommClause:
			if n.Comm != nil {
				branches++
			}
		case *ast.BinaryExpr:
			if n.Op == token.LAND || n.Op == token.LOR {
				branches++
			}
		}
		return true
	})
	return branches
}

// signature measures the parameters of a function.
func (f *file) signature(name string, n *ast.FuncType) {
	count := 0
	for _, field := range n.Params.List {
		names := max(1, len(field.Names))
		count += names
		if id, ok := field.Type.(*ast.Ident); ok && id.Name == "bool" {
			for range names {
				f.bools = append(f.bools, f.place(f.line(field.Pos()), "%s", name))
			}
		}
	}
	if count > mostArguments {
		f.parameters = append(f.parameters, f.place(f.line(n.Pos()), "%s has %d parameters", name, count))
	}
}

// names collects the package-level names of a file, methods aside.
func (f *file) names(tree *ast.File) {
	add := func(id *ast.Ident) { f.mainNames[id.Name] = f.place(f.line(id.Pos()), "%s", id.Name) }
	for _, d := range tree.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				add(d.Name)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					add(s.Name)
				case *ast.ValueSpec:
					for _, id := range s.Names {
						add(id)
					}
				}
			}
		}
	}
}
