// Package imports turns policies written for other programs into pullgate's
// own. What a source says is carried, or listed as a loss, or refused with what
// to write instead; nothing is dropped in silence, and nothing becomes weaker
// than it was unless its loss says so. It reads no files and no network.
package imports

import (
	"cmp"
	"slices"
	"strings"

	"github.com/pullgate/pullgate/policy"
)

// MaxFile bounds one file, in bytes.
const MaxFile = 4 << 20

// File is a file to import.
type File struct {
	Name string // for messages
	Text []byte
}

// Result is what came of an import.
type Result struct {
	YAML     []byte           // a policy file; nil when there are problems
	Losses   []policy.Problem // what is not carried, and what that means
	Problems []policy.Problem // what cannot be said, and what to write instead
}

// Formats are the names Convert knows.
func Formats() []string {
	return []string{"clusterimagepolicy", "kyverno", "policy.json", "talos"}
}

// Convert reads files of one format, which are one set of policies. An unknown
// format is a problem like any other.
func Convert(format string, files []File) Result {
	return (&report{}).convert(format, files)
}

func (r *report) convert(format string, files []File) Result {
	var policies []native
	switch format {
	case "clusterimagepolicy":
		policies = merge(r, readClusterImagePolicies(r, files))
	case "kyverno":
		policies = merge(r, readKyverno(r, files))
	case "policy.json":
		policies = readPolicyJSON(r, files)
	case "talos":
		policies = readTalos(r, files)
	default:
		r.problems = append(r.problems, policy.Position{File: format}.Problem(
			"unknown format: write one of %s",
			strings.Join(Formats(), ", "),
		))
	}

	if len(r.problems) == 0 && len(policies) == 0 {
		for _, f := range files {
			r.problems = append(r.problems, policy.Position{File: f.Name}.Problem("holds no policy of this format"))
		}
	}
	if len(r.problems) == 0 {
		nameAll(policies)
		check(policies)
	}
	return r.result(format, files, policies)
}

// result sorts what was found, and writes the policies if nothing is refused.
func (r *report) result(format string, files []File, policies []native) Result {
	order := func(a, b policy.Problem) int {
		position := func(p policy.Problem) int {
			return slices.IndexFunc(files, func(f File) bool { return f.Name == p.File })
		}
		return cmp.Or(cmp.Compare(position(a), position(b)), cmp.Compare(a.Line, b.Line))
	}
	slices.SortStableFunc(r.problems, order)
	slices.SortStableFunc(r.losses, order)

	result := Result{Losses: slices.Compact(r.losses), Problems: slices.Compact(r.problems)}
	if len(result.Problems) > 0 {
		return result
	}

	first := policy.Position{File: files[0].Name}
	text, err := render(format, files, policies, r.roots)
	if err != nil {
		result.Problems = []policy.Problem{first.Problem("cannot be written as YAML: %v", err)}
		return result
	}
	if len(text) > MaxFile {
		result.Problems = []policy.Problem{first.Problem(
			"becomes more than the %d KiB that pullgate reads of a policy file: import parts of it",
			MaxFile>>10,
		)}
		return result
	}

	result.YAML = text
	return result
}
