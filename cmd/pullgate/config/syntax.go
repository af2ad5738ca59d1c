package config

import (
	"bytes"
	"errors"
	"regexp"
	"strings"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/policy/strictyaml"
)

// syntaxError takes the parser's words out of an error.
var syntaxError = regexp.MustCompile(`(?s)^yaml: (?:line [0-9]+: )?(.*)$`)

// syntaxProblem says where text is no YAML, and why.
func syntaxProblem(file string, text []byte, err error) *policy.Problem {
	line := strictyaml.ErrorLine(err)
	if errors.Is(err, strictyaml.ErrTab) {
		return problemIn(file, line, "%v", strictyaml.ErrTab)
	}
	parts := syntaxError.FindStringSubmatch(err.Error())
	if parts == nil {
		return problemIn(file, line, "%v", err)
	}

	if line == 0 || strings.HasPrefix(parts[1], "did not find expected") { // which it counts from zero
		line++
	}
	line = min(line, 1+bytes.Count(bytes.TrimRight(text, "\n"), []byte("\n")))
	return problemIn(file, line, "this is no YAML: %s", parts[1])
}
