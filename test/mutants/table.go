//go:build unix

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// mutant is one entry of the table: a file with one condition taken out.
type mutant struct {
	line       int      // of the table, where the entry begins
	condition  string   // what the code does wrong once it is mutated
	file       string   // slash-separated, relative to the module's root
	packages   []string // whose tests are run, in this order
	killer     killer   // the test that failed on it last time; it is run first
	equivalent string   // why no test can tell the difference, or ""
	old, new   string
}

// killer is a test that failed on a mutant. The zero value is none.
type killer struct {
	pkg, test string
}

// parse reads the table. Its errors name the line, after the name of the table.
func parse(name, text string) ([]mutant, error) {
	var list []mutant
	var problems []error
	var oldLines, newLines []string

	finish := func() {
		if len(list) == 0 {
			return
		}
		m := &list[len(list)-1]
		m.old, m.new = strings.Join(oldLines, "\n"), strings.Join(newLines, "\n")
		oldLines, newLines = nil, nil
		if err := m.complete(); err != nil {
			problems = append(problems, fmt.Errorf("%s:%d: %q: %w", name, m.line, m.condition, err))
		}
	}

	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimRight(line, " \t\r")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if condition, ok := strings.CutPrefix(line, "== "); ok {
			finish()
			list = append(list, mutant{line: i + 1, condition: condition})
			continue
		}
		if len(list) == 0 {
			return nil, fmt.Errorf("%s:%d: an entry begins with a line \"== CONDITION\"", name, i+1)
		}

		m := &list[len(list)-1]
		switch key, value, _ := strings.Cut(line, " "); key {
		case "file:":
			m.file = value
		case "test:":
			m.packages = strings.Fields(value)
		case "by:":
			m.killer.pkg, m.killer.test, _ = strings.Cut(value, " ")
		case "equivalent:":
			m.equivalent = value
		case "-":
			oldLines = append(oldLines, value)
		case "+":
			newLines = append(newLines, value)
		default:
			problems = append(problems, fmt.Errorf("%s:%d: unknown key %q", name, i+1, key))
		}
	}
	finish()

	problems = append(problems, duplicates(name, list)...)
	return list, errors.Join(problems...)
}

// complete says what an entry lacks.
func (m *mutant) complete() error {
	switch {
	case m.file == "":
		return errors.New("no file")
	case len(m.packages) == 0:
		return errors.New("no packages to test")
	case strings.TrimSpace(m.old) == "":
		return errors.New("no old text")
	case slices.Equal(strings.Fields(m.old), strings.Fields(m.new)):
		return errors.New("the new text is the old one")
	}
	return nil
}

// duplicates finds conditions that are told twice: -only selects by them.
func duplicates(name string, list []mutant) []error {
	var problems []error
	first := make(map[string]int)
	for _, m := range list {
		if line, ok := first[m.condition]; ok {
			problems = append(problems, fmt.Errorf("%s:%d: %q is on line %d already", name, m.line, m.condition, line))
			continue
		}
		first[m.condition] = m.line
	}
	return problems
}

// apply returns the mutated text of the module's file, or why the mutant no
// longer fits: the old text must be there once.
func (m *mutant) apply(root string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(m.file)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no file %s%s", m.file, m.elsewhere(root))
	}
	if err != nil {
		return nil, err
	}

	places := m.pattern().FindAllIndex(text, -1)
	switch len(places) {
	case 1:
		at := places[0]
		return slices.Concat(text[:at[0]], []byte(m.new), text[at[1]:]), nil
	case 0:
		return nil, fmt.Errorf("%s does not hold the old text%s:\n%s", m.file, m.nearby(root, text), indented(m.old))
	}
	var lines []string
	for _, at := range places {
		lines = append(lines, fmt.Sprint(lineOf(text, at[0])))
	}
	return nil, fmt.Errorf("%s holds the old text %d times, in lines %s; add what is beside it:\n%s",
		m.file, len(places), strings.Join(lines, ", "), indented(m.old))
}

// pattern matches the old text, whatever the white space between its words.
func (m *mutant) pattern() *regexp.Regexp {
	var words []string
	for _, word := range strings.Fields(m.old) {
		words = append(words, regexp.QuoteMeta(word))
	}
	return regexp.MustCompile(strings.Join(words, `\s+`))
}

// nearby hints at where an old text went that text, of its file, does not hold:
// it was wrapped in another way, or moved.
func (m *mutant) nearby(root string, text []byte) string {
	want, _ := squeezed([]byte(m.old))
	have, places := squeezed(text)
	if at := strings.Index(have, want); at >= 0 {
		from, to := places[at], places[at+len(want)-1]+1
		return fmt.Sprintf("; with other line breaks it is in line %d:\n%s\n  instead of",
			lineOf(text, from), indented(string(text[from:to])))
	}
	return m.elsewhere(root)
}

// elsewhere lists the other files that hold the old text, as far as they can be
// read: it is a hint.
func (m *mutant) elsewhere(root string) string {
	want, _ := squeezed([]byte(m.old))
	var found []string
	_ = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}

		have, places := squeezed(text)
		if at := strings.Index(have, want); at >= 0 {
			name := strings.TrimPrefix(filepath.ToSlash(path), filepath.ToSlash(root)+"/")
			found = append(found, fmt.Sprintf("%s:%d", name, lineOf(text, places[at])))
		}
		return nil
	})
	if len(found) == 0 {
		return ""
	}
	return "; it is in " + strings.Join(found, ", ")
}

// squeezed is Go text without what a formatter changes, white space and the
// commas before a closing bracket, and the offset of each byte of it in text.
func squeezed(text []byte) (string, []int) {
	var bytes []byte
	var places []int
	for i, b := range text {
		switch b {
		case ' ', '\t', '\n', '\r':
			continue
		case ')', '}', ']':
			if n := len(bytes); n > 0 && bytes[n-1] == ',' {
				bytes, places = bytes[:n-1], places[:n-1]
			}
		}
		bytes, places = append(bytes, b), append(places, i)
	}
	return string(bytes), places
}

func lineOf(text []byte, at int) int { return 1 + strings.Count(string(text[:at]), "\n") }

func indented(text string) string { return "\t" + strings.ReplaceAll(text, "\n", "\n\t") }

// check applies every mutant to the module below root, without running any.
func check(name, root string, list []mutant) error {
	var problems []error
	for _, m := range list {
		if _, err := m.apply(root); err != nil {
			problems = append(problems, fmt.Errorf("%s:%d: %q: %w", name, m.line, m.condition, err))
		}
		for _, p := range m.packages {
			if info, err := os.Stat(filepath.Join(root, filepath.FromSlash(p))); err != nil || !info.IsDir() {
				err := fmt.Errorf("%s:%d: %q: there is no package %s", name, m.line, m.condition, p)
				problems = append(problems, err)
			}
		}
	}
	return errors.Join(problems...)
}

// record is the table's text with the killers of this run, by the condition.
// What was not run, or is killed by no test of its own, keeps what it had.
func record(text string, killers map[string]killer) string {
	var lines []string
	var now killer
	for _, line := range strings.Split(text, "\n") {
		if condition, ok := strings.CutPrefix(line, "== "); ok {
			now = killers[strings.TrimRight(condition, " \t\r")]
		}
		known := now.test != ""
		if known && strings.HasPrefix(line, "by: ") {
			continue
		}
		lines = append(lines, line)
		if known && strings.HasPrefix(line, "test: ") {
			lines = append(lines, "by: "+now.pkg+" "+now.test)
		}
	}
	return strings.Join(lines, "\n")
}
