package policy

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
)

// Pattern is an exact text or a regular expression that has to match the whole
// of a text (RE2, so its time is linear). The zero value matches nothing.
type Pattern struct {
	text string
	re   *regexp.Regexp
}

const (
	maxPattern     = 2048 // bytes of a written pattern
	maxPatternSize = 5000 // instructions of a compiled one
	maxMatched     = 2048 // bytes of a text that an expression is tried on: names and addresses are shorter
)

// Exactly is the pattern that only text matches.
func Exactly(text string) Pattern { return Pattern{text: text} }

// ParsePattern compiles a regular expression, anchored at both ends.
func ParsePattern(expression string) (Pattern, error) {
	switch {
	case expression == "":
		return Pattern{}, errors.New("is empty: it would match only nothing")
	case len(expression) > maxPattern:
		return Pattern{}, fmt.Errorf("is %d bytes long: %d at most", len(expression), maxPattern)
	case !printable(expression):
		return Pattern{}, errors.New(
			"must be printable: write \\n for a line break and \\x{…} for what else cannot be seen",
		)
	}

	tree, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return Pattern{}, fmt.Errorf("is no valid regular expression: %w", err)
	}
	if program, err := syntax.Compile(tree.Simplify()); err != nil || len(program.Inst) > maxPatternSize {
		return Pattern{}, errors.New("is too large a regular expression")
	}

	re, err := regexp.Compile(`\A(?:` + expression + `)\z`)
	if err != nil {
		return Pattern{}, fmt.Errorf("is no valid regular expression: %w", err)
	}
	return Pattern{text: expression, re: re}, nil
}

// IsZero reports that nothing was asked for.
func (p Pattern) IsZero() bool { return p.text == "" && p.re == nil }

// IsExpression reports that the pattern is a regular expression.
func (p Pattern) IsExpression() bool { return p.re != nil }

// Match reports whether the pattern matches the whole of s. It never matches an
// empty s, since what a certificate does not say cannot be what was asked for,
// nor one of more than 2 KiB.
func (p Pattern) Match(s string) bool {
	switch {
	case s == "" || len(s) > maxMatched:
		return false
	case p.re != nil:
		return p.re.MatchString(s)
	}
	return p.text == s
}

// String is the pattern as written, a regular expression between slashes.
func (p Pattern) String() string {
	if p.re != nil {
		return "/" + p.text + "/"
	}
	return p.text
}
