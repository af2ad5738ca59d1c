package reason_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/verify/reason"
)

// declared are the codes that reason.go declares, with the names of those that
// have no comment.
func declared(t *testing.T) (codes, bare []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "reason.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}

	for _, d := range file.Decls {
		group, ok := d.(*ast.GenDecl)
		if !ok || group.Tok != token.CONST {
			continue
		}
		for _, s := range group.Specs {
			value := s.(*ast.ValueSpec)
			code, err := strconv.Unquote(value.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			codes = append(codes, code)
			if value.Doc == nil {
				bare = append(bare, code)
			}
		}
	}
	return codes, bare
}

func TestCodesAreDocumented(t *testing.T) {
	t.Parallel()
	codes, bare := declared(t)
	if len(codes) == 0 || len(bare) > 0 {
		t.Fatalf("%d codes, without a comment: %v", len(codes), bare)
	}

	text, err := os.ReadFile("../../docs/decisions.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n## Reason codes\n")
	section, _, _ = strings.Cut(section, "\n## ")
	if !ok {
		t.Fatal("docs/decisions.md has no section of reason codes")
	}
	var listed []string
	for _, item := range regexp.MustCompile("(?m)^- `([a-z_]+)`: .+$").FindAllStringSubmatch(section, -1) {
		listed = append(listed, item[1])
	}

	if !slices.Equal(codes, listed) {
		t.Errorf("reason.go declares\n%v\ndocs/decisions.md lists\n%v", codes, listed)
	}
}

func TestFurthestCandidate(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ a, b, want reason.Code }{
		{reason.OtherKey, reason.LogEntry, reason.LogEntry},
		{reason.LogEntry, reason.OtherKey, reason.LogEntry},
		{reason.Unverifiable, reason.Unreadable, reason.Unreadable},
		{"", reason.Unverifiable, reason.Unverifiable},
		{reason.WrongIdentity, "", reason.WrongIdentity},
		{"", "", ""},
	} {
		t.Run(fmt.Sprintf("%s and %s", test.a, test.b), func(t *testing.T) {
			t.Parallel()
			if got := reason.Furthest(test.a, test.b); got != test.want {
				t.Errorf("%q; want %q", got, test.want)
			}
		})
	}
}
