// Package show knows what a terminal may be shown: texts of configurations,
// registries, runtimes and decisions, made harmless, shortened and counted. It
// decides nothing and reads no file.
package show

import (
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/pullgate/pullgate/policy"
)

// Printable replaces what a terminal would obey instead of show: control
// characters, also those beyond ASCII, and marks that change the direction of
// the writing. The result is a single line; other text is returned as it is.
func Printable(s string) string {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return strings.Map(printable, s)
		}
	}
	return s
}

func printable(r rune) rune {
	switch {
	case r == '\n' || r == '\t':
		return ' '
	case !unicode.IsPrint(r):
		return unicode.ReplacementChar
	}
	return r
}

// Shorten cuts s off after limit bytes, between two characters, and marks the
// cut with an ellipsis, which is not counted.
func Shorten(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}

// Counted writes n with its noun, which is given in the singular: "1 policy",
// "2 policies".
func Counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}

	if stem, ok := strings.CutSuffix(noun, "y"); ok {
		return fmt.Sprintf("%d %sies", n, stem)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// Problems prints a line for each problem.
func Problems(w io.Writer, problems []policy.Problem) {
	for _, p := range problems {
		fmt.Fprintln(w, Printable(p.String()))
	}
}

// Error prints the error that ends the program. Arguments, files and registries
// put words into it, so each of its lines is made printable.
func Error(w io.Writer, err error) {
	lines := strings.Split("pullgate: "+err.Error(), "\n")
	for i, line := range lines {
		lines[i] = Printable(line)
	}

	fmt.Fprintln(w, strings.Join(lines, "\n"))
}
