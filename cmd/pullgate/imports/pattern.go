package imports

import (
	"regexp/syntax"
	"strings"
)

// anchored rewrites a regular expression that may match anywhere in a text as
// one that has to match all of it.
func anchored(expression string) (string, error) {
	tree, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return "", err
	}

	parts := []*syntax.Regexp{tree}
	if tree.Op == syntax.OpConcat {
		parts = tree.Sub
	}

	first, last := parts[0], parts[len(parts)-1]
	text := expression
	if tree.Op == syntax.OpAlternate || strings.Contains(expression, "|") {
		text = "(?:" + expression + ")"
	}

	if first.Op != syntax.OpBeginText && !anything(first) {
		text = ".*" + text
	}
	if last.Op != syntax.OpEndText && !anything(last) {
		text += ".*"
	}
	return text, nil
}

// anything reports ".*".
func anything(tree *syntax.Regexp) bool {
	return tree.Op == syntax.OpStar && (tree.Sub[0].Op == syntax.OpAnyCharNotNL || tree.Sub[0].Op == syntax.OpAnyChar)
}

// wildcards rewrites * (any run) and ? (one character) as a regular
// expression; plain is true when there are none.
func wildcards(text string) (expression string, plain bool) {
	if !strings.ContainsAny(text, "*?") {
		return text, true
	}

	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '*':
			b.WriteString(".*")
		case r == '?':
			b.WriteString(".")
		case strings.ContainsRune(`\.+()|[]{}^$`, r):
			b.WriteRune('\\')
			b.WriteRune(r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String(), false
}
