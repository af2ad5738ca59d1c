package test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// maxProse is the longest line of a document, in characters. Tables and code
// blocks may be wider: breaking them would change what they show.
const maxProse = 120

var (
	// markdownLink matches [text](target); a title after the target does not occur.
	markdownLink = regexp.MustCompile(`\]\(([^()\s]+)\)`)

	inlineCode = regexp.MustCompile("`[^`]*`")

	markdownHeading = regexp.MustCompile(`^#{1,6} +(.+?) *#*$`)
)

// document is one Markdown file, taken apart by lines.
type document struct {
	path string

	// prose has the lines outside of code blocks and of what test/bench writes
	// into a document. Those lines are empty, so that the numbers stay the file's.
	prose []string

	// anchors are the names that a link's fragment may have.
	anchors map[string]bool
}

// TestDocumentLinks follows every relative link of every document: the file
// exists, and the heading that the fragment names does too.
func TestDocumentLinks(t *testing.T) {
	documents := readDocuments(t)

	for _, d := range documents {
		for i, line := range d.prose {
			for _, m := range markdownLink.FindAllStringSubmatch(inlineCode.ReplaceAllString(line, ""), -1) {
				if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
					continue
				}

				if problem := follow(documents, d.path, m[1]); problem != "" {
					t.Errorf("%s:%d: the link to %s %s", d.path, i+1, m[1], problem)
				}
			}
		}
	}
}

// follow says what is wrong with a relative link of the document at from; an
// empty answer means that the link holds.
func follow(documents map[string]document, from, link string) string {
	file, anchor, _ := strings.Cut(link, "#")

	target := from
	if file != "" {
		target = filepath.Join(filepath.Dir(from), filepath.FromSlash(file))
	}
	if _, err := os.Stat(target); err != nil {
		return "leads nowhere: " + err.Error()
	}

	if anchor != "" && !documents[target].anchors[anchor] {
		return "names a heading that " + target + " does not have"
	}
	return ""
}

// TestDocumentLinesAreShort keeps prose readable in a terminal and in a diff.
func TestDocumentLinesAreShort(t *testing.T) {
	for _, d := range readDocuments(t) {
		for i, line := range d.prose {
			table := strings.HasPrefix(strings.TrimSpace(line), "|")
			if n := utf8.RuneCountInString(line); n > maxProse && !table {
				t.Errorf("%s:%d: %d characters, more than %d", d.path, i+1, n, maxProse)
			}
		}
	}

	text, err := os.ReadFile("../config.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(text), "\n") {
		if n := utf8.RuneCountInString(line); n > maxProse {
			t.Errorf("config.example.yaml:%d: %d characters, more than %d", i+1, n, maxProse)
		}
	}
}

// readDocuments reads every Markdown file of the checkout, by its path.
func readDocuments(t *testing.T) map[string]document {
	t.Helper()

	documents := map[string]document{}
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != ".." && strings.HasPrefix(entry.Name(), ".") {
			return filepath.SkipDir
		}
		if entry.IsDir() || filepath.Ext(path) != ".md" {
			return nil
		}

		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		documents[path] = parseDocument(path, string(text))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}

	if _, ok := documents[filepath.Join("..", "README.md")]; !ok || len(documents) < 10 {
		t.Fatalf("found %d documents, the README among them: %t", len(documents), ok)
	}
	return documents
}

func parseDocument(path, text string) document {
	d := document{path: path, anchors: map[string]bool{}}

	fenced, measured := false, false
	for line := range strings.SplitSeq(text, "\n") {
		fence := strings.HasPrefix(strings.TrimSpace(line), "```")
		switch {
		case fence:
			fenced = !fenced
		case line == "<!-- table -->":
			measured = true
		case line == "<!-- end -->":
			measured = false
		}

		if fence || fenced || measured {
			line = ""
		}
		d.prose = append(d.prose, line)

		if m := markdownHeading.FindStringSubmatch(line); m != nil {
			d.anchors[slug(m[1])] = true
		}
	}
	return d
}

// slug is the anchor that GitHub gives a heading: lower case, blanks become
// hyphens, and punctuation goes. No two headings of one document are alike here,
// so the numbers that tell such headings apart are not needed.
func slug(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		default:
			return -1
		}
	}, heading)
}
