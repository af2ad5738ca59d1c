//go:build unix

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTable holds the table to the code as it is now.
func TestTable(t *testing.T) {
	text, err := os.ReadFile("mutants.txt")
	if err != nil {
		t.Fatal(err)
	}
	list, err := parse("mutants.txt", string(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := check("mutants.txt", "../..", list); err != nil {
		t.Fatal(err)
	}
}

// tiny is a module with a table of mutants, on which the command itself is tried.
func tiny(t *testing.T, mutants string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.com/tiny\n\ngo 1.26\n",
		"small.go": `package tiny

func Small(n int) bool {
	if n < 0 {
		return false
	}

	return n < 10 // one digit
}
`,
		"large.go": `package tiny

func Large(n int) bool { return n > 1000 }
`,
		"small_test.go": `package tiny

import "testing"

func TestSmall(t *testing.T) {
	t.Run("ten", func(t *testing.T) {
		if Small(10) {
			t.Error("10 is small")
		}
	})
}
`,
		table: mutants,
	} {
		put(t, root, name, text)
	}
	return root
}

func put(t *testing.T, root, name, text string) {
	t.Helper()
	path := filepath.Join(root, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// try runs the command and returns what it prints and its error's text.
func try(t *testing.T, root string, args ...string) (string, string) {
	t.Helper()
	var out strings.Builder
	err := run(t.Context(), root, args, &out)
	if err != nil {
		return out.String(), err.Error()
	}
	return out.String(), ""
}

func contains(t *testing.T, text string, wanted ...string) {
	t.Helper()
	for _, want := range wanted {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
}

// The mutants of these tests, one for each outcome.
const (
	killedMutant = `== Ten is small
file: small.go
test: .
- return n < 10
+ return n < 11
`
	survivingMutant = `== Negative numbers are small
file: small.go
test: .
- if n < 0 {
- 	return false
- }
- return
+ return
`
	equivalentMutant = `== The sign is looked at in another way
file: small.go
test: .
equivalent: the condition is the same
- if n < 0 {
+ if n <= -1 {
`
	brokenMutant = `== There is no variable
file: small.go
test: .
- n < 10
+ m < 10
`
	largeMutant = `== Everything is large
file: large.go
test: .
equivalent: it has no tests here
- n > 1000
+ true
`
)

func TestOutcomes(t *testing.T) {
	root := tiny(t, killedMutant+survivingMutant+equivalentMutant+brokenMutant)
	before, err := os.ReadFile(filepath.Join(root, "small.go"))
	if err != nil {
		t.Fatal(err)
	}

	out, problem := try(t, root, "-jobs", "2")
	contains(t, out,
		"small.go: Ten is small\n\tby . TestSmall/ten\n",
		"SURVIVED",
		"the condition is the same",
		"undefined: m",
		"4 mutants: 1 killed, 1 equivalent, 1 survived, 1 do not build, 0 unknown")
	contains(t, problem,
		`"Negative numbers are small" survived`,
		`"There is no variable" does not build`)
	if strings.Contains(problem, "Ten is small") || strings.Contains(problem, "another way") {
		t.Errorf("a mutant that is as it should be is a problem:\n%s", problem)
	}

	if after, err := os.ReadFile(filepath.Join(root, "small.go")); err != nil || string(after) != string(before) {
		t.Errorf("the tree was changed: %v", err)
	}
}

func TestHangingTest(t *testing.T) {
	root := tiny(t, "== It never ends\nfile: small.go\ntest: .\n- return n < 10\n+ for {\n+ }\n")
	out, problem := try(t, root, "-timeout", "3s")
	contains(t, out, "by . TestSmall/ten, which did not end", "1 killed")
	if problem != "" {
		t.Error(problem)
	}
}

func TestMarkedEquivalentButKilled(t *testing.T) {
	root := tiny(t, strings.Replace(killedMutant, "test: .\n", "test: .\nequivalent: it was thought so\n", 1))
	_, problem := try(t, root)
	contains(t, problem, "remove the mark")
}

func TestFailureWithoutMutant(t *testing.T) {
	root := tiny(t, killedMutant)
	put(t, root, "large_test.go", "package tiny\n\nimport \"testing\"\n\nfunc TestLarge(t *testing.T) { t.Fail() }\n")
	out, problem := try(t, root)
	contains(t, problem, "without any mutant", "TestLarge")
	if strings.Contains(out, "killed") {
		t.Errorf("it went on:\n%s", out)
	}
}

func TestCheck(t *testing.T) {
	for name, c := range map[string]struct {
		mutants string
		want    []string
	}{
		"fits": {killedMutant + largeMutant, nil},
		"gone": {
			"== It is gone\nfile: small.go\ntest: .\n- return n < 99\n",
			[]string{`mutants.txt:1: "It is gone": small.go does not hold the old text:`, "return n < 99"},
		},
		"moved": {
			"== It moved\nfile: small.go\ntest: .\n- n > 1000\n",
			[]string{"small.go does not hold the old text; it is in large.go:3"},
		},
		"file moved": {
			"== It moved\nfile: medium.go\ntest: .\n- n > 1000\n",
			[]string{"there is no file medium.go; it is in large.go:3"},
		},
		"wrapped": {
			"== It was wrapped\nfile: small.go\ntest: .\n- func Small(\n- \tn int,\n- ) bool {\n+ {\n",
			[]string{"with other line breaks it is in line 3", "func Small(n int) bool {"},
		},
		"twice": {
			"== It is there twice\nfile: small.go\ntest: .\n- return\n",
			[]string{"small.go holds the old text 2 times, in lines 5, 8"},
		},
		"no package": {
			"== There is no package\nfile: small.go\ntest: ./none\n- n < 10\n",
			[]string{"there is no package ./none"},
		},
		"told twice": {killedMutant + killedMutant, []string{"is on line 1 already"}},
		"same": {
			"== Same\nfile: small.go\ntest: .\n- n < 10\n+ n  < 10\n",
			[]string{"the new text is the old one"},
		},
		"no file":      {"== No file\ntest: .\n- n < 10\n", []string{"no file"}},
		"no tests":     {"== No tests\nfile: small.go\n- n < 10\n", []string{"no packages"}},
		"no old text":  {"== No old text\nfile: small.go\ntest: .\n+ n < 10\n", []string{"no old text"}},
		"unknown key":  {"== Key\nfile: small.go\ntests: .\n- n < 10\n", []string{`unknown key "tests:"`}},
		"no condition": {"file: small.go\n", []string{"an entry begins with"}},
	} {
		t.Run(name, func(t *testing.T) {
			out, problem := try(t, tiny(t, c.mutants), "-check")
			if len(c.want) == 0 {
				contains(t, out, "2 mutants fit")
			}
			if (problem == "") != (len(c.want) == 0) {
				t.Errorf("error %q", problem)
			}
			contains(t, problem, c.want...)
		})
	}
}

func TestChoice(t *testing.T) {
	root := tiny(t, killedMutant+largeMutant)
	git := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "git", append([]string{
			"-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false",
		}, args...)...)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
	}
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("needs git")
	}
	git("init", "-q")
	git("add", ".")
	git("commit", "-q", "-m", "tiny")
	put(t, root, "large.go", "package tiny\n\nfunc Large(n int) bool { return n > 1000 } // it has changed\n")

	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"all":                {nil, "2 mutants: 1 killed, 1 equivalent"},
		"only by condition":  {[]string{"-only", "^Ten"}, "1 mutants: 1 killed, 0 equivalent"},
		"only by file":       {[]string{"-only", "large"}, "1 mutants: 0 killed, 1 equivalent"},
		"changed":            {[]string{"-changed", "HEAD"}, "1 mutants: 0 killed, 1 equivalent"},
		"changed and random": {[]string{"-changed", "HEAD", "-random", "10"}, "2 mutants: 1 killed, 1 equivalent"},
		"random":             {[]string{"-random", "1"}, "1 mutants: 1 killed, 0 equivalent"},
		"none":               {[]string{"-only", "Twenty"}, "0 mutants"},
	} {
		t.Run(name, func(t *testing.T) {
			out, problem := try(t, root, c.args...)
			contains(t, out, c.want)
			if problem != "" {
				t.Error(problem)
			}
		})
	}

	t.Run("unknown revision", func(t *testing.T) {
		_, problem := try(t, root, "-changed", "no-such-revision")
		contains(t, problem, "no-such-revision")
	})
}
