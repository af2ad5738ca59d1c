package config

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"

	"github.com/pullgate/pullgate/policy"
)

// syntaxError takes the parser's words and its line out of an error.
var syntaxError = regexp.MustCompile(`(?s)^yaml: (?:line ([0-9]+): )?(.*)$`)

// syntaxProblem says where text is no YAML, and why. Tabs are what people run into,
// and the parser does not name them.
func syntaxProblem(file string, text []byte, err error) *policy.Problem {
	parts := syntaxError.FindStringSubmatch(err.Error())
	if parts == nil {
		return problemIn(file, 0, "%v", err)
	}

	line, _ := strconv.Atoi(parts[1])
	if line == 0 || strings.HasPrefix(parts[2], "did not find expected") { // which it counts from zero
		line++
	}
	lines := bytes.Split(bytes.TrimRight(text, "\n"), []byte("\n"))
	line = min(line, len(lines))

	// The parser may name the line at which the value began that the tab ends.
	for n := line - 1; n < len(lines) && n <= line; n++ {
		if indentedByTab(lines[n]) {
			return problemIn(file, n+1, "a tab stands before the text: YAML is indented by spaces alone")
		}
	}
	return problemIn(file, line, "this is no YAML: %s", parts[2])
}

func indentedByTab(line []byte) bool {
	indent := line[:len(line)-len(bytes.TrimLeft(line, " \t"))]
	return bytes.IndexByte(indent, '\t') >= 0 && len(indent) < len(line)
}
