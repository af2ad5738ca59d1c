package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrTab is about a tab character in an indentation, which YAML forbids.
var ErrTab = errors.New("a tab character indents the line: YAML wants spaces")

// explain says of a parser's error what a person can do, and at which line. The
// error stays as it is where nothing better is known.
func explain(text []byte, err error) error {
	if err == nil {
		return nil
	}

	// The parser's line may be the one before, or none.
	from := max(ErrorLine(err), 1)
	for i, line := range bytes.Split(text, []byte("\n")) {
		indent := line[:len(line)-len(bytes.TrimLeft(line, " \t"))]
		if i+1 >= from && i+1 <= from+1 && bytes.ContainsRune(indent, '\t') && len(indent) < len(line) {
			return fmt.Errorf("line %d: %w", i+1, ErrTab)
		}
	}
	return err
}

// ErrorLine is the line that an error of Documents names; 0 without one.
func ErrorLine(err error) int {
	_, after, _ := strings.Cut(err.Error(), "line ")
	digits, _, _ := strings.Cut(after, ":")
	line, _ := strconv.Atoi(digits)
	return max(line, 0)
}

// Nearest returns the name that was most likely meant by an unknown one: the
// same in another case, or one that few changes of a letter make of it. Of
// several it is the first.
func Nearest(unknown string, names []string) (string, bool) {
	best, least := "", 1+min(2, len(unknown)/3)
	for _, name := range names {
		if strings.EqualFold(name, unknown) {
			return name, true
		}
		if d := distance(strings.ToLower(unknown), strings.ToLower(name)); d < least {
			best, least = name, d
		}
	}
	return best, best != ""
}

// distance counts the letters to put in, take out, replace or swap with their
// neighbor to make b of a; texts of very different length are far apart.
func distance(a, b string) int {
	if max(len(a), len(b)) > 64 {
		return max(len(a), len(b))
	}

	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replaced := last[j-1]
			if a[i-1] != b[j-1] {
				replaced++
			}
			row[j] = min(last[j]+1, row[j-1]+1, replaced)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
