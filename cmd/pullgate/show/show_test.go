package show

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/policy"
)

// steer is what a terminal would obey: a title, a cleared screen, a colour by a
// C1 control, and a turned direction of writing.
const steer = "\x1b]0;owned\a\x1b[2J\u009b31m\u202e"

func harmless(printed string) bool {
	return !strings.ContainsFunc(printed, func(r rune) bool { return r != '\n' && Printable(string(r)) != string(r) })
}

func TestPrintable(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"plain ASCII, and é": "plain ASCII, and é",
		"one\ntwo\tthree":    "one two three",
		"\x1b[31mred":        "\uFFFD[31mred",
		"\u009b31m":          "\uFFFD31m",
		"\u202eabc":          "\uFFFDabc",
		"":                   "",
	} {
		if got := Printable(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
}

func TestShorten(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		text  string
		limit int
		want  string
	}{
		{"abc", 3, "abc"},
		{"abcd", 3, "abc…"},
		{"aé", 2, "a…"},
	} {
		if got := Shorten(row.text, row.limit); got != row.want {
			t.Errorf("%q in %d bytes is %q, want %q", row.text, row.limit, got, row.want)
		}
	}
}

func TestCounted(t *testing.T) {
	t.Parallel()
	for want, row := range map[string]struct {
		n    int
		noun string
	}{
		"0 images":   {0, "image"},
		"1 image":    {1, "image"},
		"1 policy":   {1, "policy"},
		"2 policies": {2, "policy"},
	} {
		if got := Counted(row.n, row.noun); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestError(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	Error(&out, errors.Join(fmt.Errorf("first %s", steer), errors.New("second")))

	if !harmless(out.String()) {
		t.Errorf("%q", out.String())
	}
	if !strings.HasSuffix(out.String(), "\nsecond\n") {
		t.Errorf("two errors are not two lines: %q", out.String())
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	Problems(&out, []policy.Problem{policy.Position{File: "a" + steer, Line: 1}.Problem("%s", "b\n"+steer)})

	if !harmless(out.String()) {
		t.Errorf("%q", out.String())
	}
	if strings.Count(out.String(), "\n") != 1 {
		t.Errorf("one problem is not one line: %q", out.String())
	}
}

// TestProgress: what is no terminal is left alone.
func TestProgress(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	progress := Progress(&out, "images judged")
	progress(1, 2)
	progress(2, 2)

	if out.Len() > 0 {
		t.Errorf("%q", out.String())
	}
}
