package server

import (
	"fmt"
	"os"
	"testing"

	"github.com/pullgate/pullgate/cmd/pullgate/telemetry"
	"github.com/pullgate/pullgate/policy"
)

// TestChangeWhileLoading: what changes between the reading of a file and the taking
// of its fingerprint is loaded all the same.
func TestChangeWhileLoading(t *testing.T) {
	t.Parallel()
	const (
		first  = "policies: [{name: first, images: [\"a.example/**\"], static: allow}]\n"
		second = "policies: [{name: second, images: [\"a.example/**\"], static: deny}]\n"
	)
	for name, row := range map[string]struct {
		changes []int // the reads after which the file changes
		reads   int
	}{
		"none":                {nil, 2},
		"first read":          {[]int{1}, 2},
		"second read":         {[]int{2}, 3},
		"several":             {[]int{1, 2, 3, 4}, 5},
		"file that is new":    {[]int{2}, 3},
		"file named by a new": {[]int{2}, 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			text := "upstreams: [{host: a.example}]\npolicyFiles: [\"p*.yaml\"]\n"
			file := writeIn(t, dir, "pullgate.yaml", text)
			writeIn(t, dir, "p.yaml", first)

			reads, changes := 0, row.changes
			l, problems, ok := settled(func() (*Loaded, []policy.Problem) {
				l, problems := read(file, nil, telemetry.None(), nil)
				reads++
				if len(changes) > 0 && changes[0] == reads {
					changes = changes[1:]
					switch name {
					case "file that is new":
						writeIn(t, dir, "p0.yaml", second)
						writeIn(t, dir, "p.yaml", "policies: []\n")
					case "file named by a new":
						writeIn(t, dir, "pullgate.yaml", "upstreams: [{host: a.example}]\npolicyFiles: [q.yaml]\n")
						writeIn(t, dir, "q.yaml", second)
					default:
						writeIn(t, dir, "p.yaml", fmt.Sprint(second, "# ", reads, "\n"))
					}
				}
				return l, problems
			})
			if !ok || len(problems) > 0 {
				t.Fatalf("%t, %v", ok, problems)
			}

			want := "second"
			if row.changes == nil {
				want = "first"
			}
			if got := l.Policies.Policies()[0].Name; got != want {
				t.Errorf("policy %q is in force, want %q", got, want)
			}
			if l.sum != fingerprint(l.files()) {
				t.Error("the fingerprint is not of what the files hold")
			}
			if reads != row.reads {
				t.Errorf("%d reads, want %d", reads, row.reads)
			}
		})
	}
}

// TestFilesNeverSettled: half of what was meant is never served.
func TestFilesNeverSettled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := writeIn(t, dir, "pullgate.yaml", "upstreams: [{host: a.example}]\n")

	n := 0
	_, _, ok := settled(func() (*Loaded, []policy.Problem) {
		l, problems := read(file, nil, telemetry.None(), nil)
		n++
		writeIn(t, dir, "pullgate.yaml", "upstreams: [{host: a.example}]\n#"+string(rune('a'+n))+"\n")
		return l, problems
	})
	if ok {
		t.Error("files that change all the time were taken")
	}
}

// TestPipedConfiguration: a configuration may come through a pipe, which can be
// read only once.
func TestPipedConfiguration(t *testing.T) {
	t.Parallel()
	from, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	if _, err := to.WriteString("upstreams: [{host: a.example}]\n"); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}

	file := fmt.Sprintf("/dev/fd/%d", from.Fd())
	if _, err := os.Stat(file); err != nil {
		t.Skip(err)
	}
	if _, problems := Load(file, nil, telemetry.None()); len(problems) > 0 {
		t.Error(problems)
	}
}
