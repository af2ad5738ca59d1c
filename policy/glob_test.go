package policy

import (
	"strings"
	"testing"
	"time"
)

func TestGlobMatch(t *testing.T) {
	for _, row := range []struct {
		glob, repo string
		want       bool
	}{
		{"ghcr.io/acme/app", "ghcr.io/acme/app", true},
		{"ghcr.io/acme/app", "ghcr.io/acme/app2", false},
		{"ghcr.io/acme/app", "ghcr.io/acme/app/x", false},
		{"ghcr.io/acme/*", "ghcr.io/acme/app", true},
		{"ghcr.io/acme/*", "ghcr.io/acme/team/app", false},
		{"ghcr.io/acme/*", "ghcr.io/acme", false},
		{"ghcr.io/acme/**", "ghcr.io/acme/team/app", true},
		{"ghcr.io/acme/**", "ghcr.io/acme", false},
		{"ghcr.io/acme/**", "ghcr.io/acme-evil/app", false},
		{"ghcr.io/acme/app-*", "ghcr.io/acme/app-web", true},
		{"ghcr.io/*/app", "ghcr.io/a/app", true},
		{"ghcr.io/*/app", "ghcr.io/a/b/app", false},
		{"ghcr.io/**/app", "ghcr.io/a/b/app", true},
		{"ghcr.io/**/app", "ghcr.io/app", true},
		{"ghcr.io/**/app", "ghcr.io/xapp", false},
		{"ghcr.io/**/**/app", "ghcr.io/app", true},
		{"ghcr.io/a/**b", "ghcr.io/a/x/yb", true},
		{"ghcr.io/**/a/**/b", "ghcr.io/x/a/y/a/z/b", true},
		{"*.example/app", "reg.example/app", true},
		{"*/app", "reg.example/x/app", false},
		{"*:5000/**", "reg.example:5000/x/app", true},
		{"*:5000/**", "reg.example/x/app", false},
		{"**", "anything.example/at/all", true},
		{"**/app", "reg.example/x/app", true},
		{"localhost/app", "localhost/app", true},
		{"localhost:5000/app", "localhost:5000/app", true},
		{"[::1]:5000/app", "[::1]:5000/app", true},
		{"GHCR.IO/acme/app", "ghcr.io/acme/app", true},
		{"docker.io/nginx", "docker.io/library/nginx", true},
		{"index.docker.io/acme/*", "docker.io/acme/app", true},
		{"docker.io/**", "docker.io/library/nginx", true},
		{"docker.io/*/*", "docker.io/library/nginx", true},
	} {
		g, err := ParseGlob(row.glob)
		if err != nil {
			t.Errorf("ParseGlob(%q): %v", row.glob, err)
			continue
		}

		if got := g.Match(row.repo); got != row.want {
			t.Errorf("%q matches %q: %v, want %v", row.glob, row.repo, got, row.want)
		}
	}

	if (Glob{}).Match("") || (Glob{}).Match("a.b/c") {
		t.Error("the zero Glob matches")
	}
}

func TestParseGlobErrors(t *testing.T) {
	for glob, want := range map[string]string{
		"":                                "empty",
		"nginx":                           "docker.io/library/nginx",
		"acme/app":                        "docker.io/acme/app",
		"nginx:1.2":                       "has a tag",
		"ghcr.io/acme/app:v1":             "has a tag",
		"ghcr.io/acme:5000/app":           "has a tag",
		"**/app:*":                        "has a tag",
		"ghcr.io/a@sha256:00":             "has a digest",
		"ghcr.io":                         "write ghcr.io/**",
		"localhost:5000":                  "has no path",
		"*":                               "has no path",
		"ghcr.io/":                        "the path may hold",
		"ghcr.io//a":                      "the path may hold",
		"ghcr.io/Acme/app":                "the path may hold",
		"ghcr.io/Acm*":                    "the path may hold",
		"ghcr.io/a..b":                    "the path may hold",
		"ghcr.io/a/***":                   "write *",
		"ghcr.io**/a":                     "beyond the host",
		"gh cr.io/a":                      "cannot be part of a host",
		"docker.io/*":                     "docker.io/library/*",
		"registry-1.docker.io/ng*":        "docker.io/library/ng*",
		"a.b/" + strings.Repeat("a", 600): "512 at most",
	} {
		if _, err := ParseGlob(glob); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseGlob(%q): %v, want an error with %q", glob, err, want)
		}
	}
}

func TestGlobCovers(t *testing.T) {
	for _, row := range []struct {
		wide, narrow string
		want         bool
	}{
		{"**", "**", true},
		{"**", "*/**", true},
		{"*/**", "ghcr.io/acme/*", true},
		{"ghcr.io/**", "ghcr.io/acme/**", true},
		{"ghcr.io/acme/**", "ghcr.io/**", false},
		{"ghcr.io/acme/**", "ghcr.io/acme/*", true},
		{"ghcr.io/acme/*", "ghcr.io/acme/**", false},
		{"ghcr.io/*/app", "ghcr.io/a*b/app", true},
		{"ghcr.io/a*b/app", "ghcr.io/*/app", false},
		{"ghcr.io/**/app", "ghcr.io/app", true},
		{"ghcr.io/**/app", "ghcr.io/**/app", true},
		{"ghcr.io/**/app", "ghcr.io/x/**/app", true},
		{"ghcr.io/x/**/app", "ghcr.io/**/app", false},
		{"ghcr.io/*/**/app", "ghcr.io/**/app", false},
		{"ghcr.io/**", "ghcr.io/**/app", true},
		{"ghcr.io/*/app", "ghcr.io/**/app", false},
		{"ghcr.io/**/app", "ghcr.io/**app", false},
		{"docker.io/library/*", "docker.io/nginx", true},
		{"ghcr.io/a/b", "ghcr.io/a/b", true},
		{"ghcr.io/a/b", "ghcr.io/a/c", false},
	} {
		if got := glob(t, row.wide).Covers(glob(t, row.narrow)); got != row.want {
			t.Errorf("%q covers %q: %v, want %v", row.wide, row.narrow, got, row.want)
		}
	}

	if glob(t, "**").Covers(Glob{}) || (Glob{}).Covers(glob(t, "**")) {
		t.Error("the zero Glob covers or is covered")
	}
}

// A backtracking matcher would need ages for this.
func TestGlobTime(t *testing.T) {
	hard := "a.b/" + strings.Repeat("a**", 150) + "b"
	repo := "a.b/" + strings.Repeat("a", 400)
	start := time.Now()
	if glob(t, hard).Match(repo) {
		t.Error("matched")
	}
	glob(t, hard).Covers(glob(t, "a.b/"+strings.Repeat("*a", 200)))
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
}

func glob(t testing.TB, s string) Glob {
	t.Helper()
	g, err := ParseGlob(s)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// FuzzGlob compares the automaton with plain recursion, and Covers with Match.
func FuzzGlob(f *testing.F) {
	f.Add("ghcr.io/**/app", "ghcr.io/*/app", "ghcr.io/a/app")
	f.Add("**", "*/**", "a.b/c")
	f.Add("a.b/a**b*c", "a.b/**/**/b", "a.b/a/b/b")
	f.Fuzz(func(t *testing.T, one, two, repo string) {
		if len(one)+len(two)+len(repo) > 60 {
			return
		}
		a, err := ParseGlob(one)
		if err != nil {
			return
		}
		if again, err := ParseGlob(a.String()); err != nil || again.String() != a.String() {
			t.Fatalf("%q does not parse again: %v", a, err)
		}
		matched := a.Match(repo)
		if want := slowMatch(a.String(), repo, true); matched != want {
			t.Fatalf("%q matches %q: %v, want %v", a, repo, matched, want)
		}
		b, err := ParseGlob(two)
		if err == nil && a.Covers(b) && b.Match(repo) && !matched {
			t.Fatalf("%q covers %q but does not match %q", a, b, repo)
		}
	})
}

func slowMatch(g, s string, atStart bool) bool {
	switch {
	case g == "":
		return s == ""
	case atStart && strings.HasPrefix(g, "**/"):
		if slowMatch(g[3:], s, true) {
			return true
		}
		for i := range len(s) {
			if s[i] == '/' && slowMatch(g[3:], s[i+1:], true) {
				return true
			}
		}

		return false
	case g[0] == '*':
		rest := strings.TrimLeft(g, "*")
		across := strings.HasPrefix(g, "**")
		for i := 0; i <= len(s); i++ {
			if slowMatch(rest, s[i:], false) {
				return true
			}
			if i < len(s) && s[i] == '/' && !across {
				return false
			}
		}

		return false
	}
	return s != "" && s[0] == g[0] && slowMatch(g[1:], s[1:], g[0] == '/')
}
