package imports

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/policy/strictyaml"
)

// TestMerge makes sets of rules that all must hold, and tries
// every image with every set of signers: the policies of which the first
// decides admit exactly what all rules together admit.
func TestMerge(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	globs := []string{
		"**",
		"r.example/**",
		"r.example/a/**",
		"r.example/a/*",
		"r.example/a/x",
		"r.example/*/x",
		"r.example/b*",
		"*.example/**",
	}
	images := []string{
		"r.example/a/x",
		"r.example/a/y",
		"r.example/b",
		"r.example/b/x",
		"r.example/bb",
		"r.example/a/y/z",
		"q.example/a/x",
		"other/x",
	}
	signers := []string{"a", "b", "c", "d"}
	carried := 0
	for range 20000 {
		r := &report{}
		at := value{strictyaml.Value{File: "f", Node: &yaml.Node{}}, r}
		var rules []rule
		for i := range 1 + rng.IntN(3) {
			a := rule{value: at, name: fmt.Sprint("rule ", i), warn: rng.IntN(8) == 0}
			for range 1 + rng.IntN(2) {
				g, err := policy.ParseGlob(globs[rng.IntN(len(globs))])
				if err != nil {
					t.Fatal(err)
				}
				a.places = append(a.places, place{value: at, glob: g, untagged: true})
			}

			switch rng.IntN(8) {
			case 0:
				a.static = policy.Allow
			case 1:
				a.static, a.warn = policy.Deny, false
			default:
				for range 1 + rng.IntN(2) {
					n := need{}
					for _, j := range rng.Perm(4)[:1+rng.IntN(3)] {
						n.who = append(n.who, authority{identities: []identity{{issuer: "i", subject: signers[j]}}})
					}
					n.count = 1 + rng.IntN(len(n.who))
					a.needs = append(a.needs, n)
				}
			}
			rules = append(rules, a)
		}

		policies := merge(r, rules)
		if len(r.problems) > 0 {
			continue
		}
		carried++
		for _, image := range images {
			for set := range 1 << len(signers) {
				has := func(who authority) bool {
					return slices.ContainsFunc(who.identities, func(id identity) bool {
						return set&(1<<slices.Index(signers, id.subject)) != 0
					})
				}
				if want, got := all(rules, image, has), first(policies, image, has); want != got {
					t.Fatalf(
						"%s with signers %04b: rules %q, policies %q\n%+v\n%+v",
						image,
						set,
						want,
						got,
						rules,
						policies,
					)
				}
			}
		}
	}

	if carried < 4000 {
		t.Errorf("%d sets were carried", carried)
	}
}

// all is what rules say of an image when all that match must hold.
func all(rules []rule, image string, has func(authority) bool) string {
	answer := "no match"
	worse := func(word string) {
		order := []string{"no match", "allow", "warn", "deny"}
		if slices.Index(order, word) > slices.Index(order, answer) {
			answer = word
		}
	}

	for _, a := range rules {
		if !slices.ContainsFunc(a.places, func(p place) bool { return p.glob.Match(image) }) {
			continue
		}
		worse("allow")
		if a.static == policy.Deny {
			worse("deny")
		}
		for _, n := range a.needs {
			count := 0
			for _, who := range n.who {
				if has(who) {
					count++
				}
			}

			if count < n.count && a.warn {
				worse("warn")
			} else if count < n.count {
				worse("deny")
			}
		}
	}

	// A warning beside a policy that enforces is listed as lost.
	enforced := slices.ContainsFunc(rules, func(a rule) bool {
		return !a.warn && a.static == policy.Verify &&
			slices.ContainsFunc(a.places, func(p place) bool { return p.glob.Match(image) })
	})
	if answer == "warn" && enforced {
		return "allow"
	}
	return answer
}

// first is what pullgate would say.
func first(policies []native, image string, has func(authority) bool) string {
	for _, p := range policies {
		if !slices.ContainsFunc(p.places, func(at place) bool { return at.glob.Match(image) }) {
			continue
		}
		switch p.static {
		case policy.Allow:
			return "allow"
		case policy.Deny:
			return "deny"
		}
		passed, missing := 0, false
		for _, a := range p.authorities {
			if has(a) {
				passed++
			} else if a.required {
				missing = true
			}
		}

		switch {
		case passed >= max(p.threshold, 1) && !missing:
			return "allow"
		case p.warn:
			return "warn"
		}
		return "deny"
	}

	return "no match"
}

// TestOverlap compares with trying: globs that match the same name overlap.
func TestOverlap(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	letters := []string{"a", "b", "/", "*", "**", "a", "/"}
	word := func(n int, from []string) string {
		var b strings.Builder
		for range n {
			b.WriteString(from[rng.IntN(len(from))])
		}

		return b.String()
	}

	found, apart := 0, 0
	for range 300000 {
		a, errA := policy.ParseGlob("r.example/" + word(1+rng.IntN(5), letters))
		b, errB := policy.ParseGlob("r.example/" + word(1+rng.IntN(5), letters))
		if errA != nil || errB != nil {
			continue
		}
		name := "r.example/" + word(1+rng.IntN(6), letters[:3])
		if a.Match(name) && b.Match(name) {
			found++
			if !overlap(a.String(), b.String()) {
				t.Fatalf("%s and %s both match %s", a, b, name)
			}
		}

		if !overlap(a.String(), b.String()) {
			apart++
		}
	}

	if found < 1000 || apart < 1000 {
		t.Errorf("%d pairs overlapped, %d did not", found, apart)
	}

	for _, pair := range [][2]string{
		{"r.example/a/**", "r.example/b/**"},
		{"r.example/*", "r.example/a/b"},
		{"q.example/**", "r.example/**"},
		{"*.q.example/**", "r.example/**"},
	} {
		if overlap(pair[0], pair[1]) || overlap(pair[1], pair[0]) {
			t.Errorf("%s and %s do not overlap", pair[0], pair[1])
		}
	}
}

// TestAnchored holds that an expression, anchored at both ends, matches what it
// matched anywhere in a text.
func TestAnchored(t *testing.T) {
	texts := []string{
		"",
		"a",
		"b",
		"ab",
		"ba",
		"xaby",
		"https://github.com/acme/app",
		"https://github.com/acme/app/x",
		"evil https://github.com/acme/",
		"a|b",
		"$a",
		"a$",
	}
	for _, expression := range []string{
		"a",
		"^a",
		"a$",
		"^a$",
		"^a|b$",
		"(^a|b)$",
		".*a",
		"a.*",
		"^https://github\\.com/acme/.*",
		"^https://github\\.com/acme/",
		"^(?:a|b)+$",
		`\$a`,
		`a\$`,
		"(?i)A",
		"",
		"^",
		"$",
		"^$",
		"x|",
		"(?m)^a$",
		"[|]",
		`a\.*`,
	} {
		text, err := anchored(expression)
		if err != nil {
			t.Errorf("%q: %v", expression, err)
			continue
		}

		was, is := regexp.MustCompile(expression), regexp.MustCompile(`\A(?:`+text+`)\z`)
		for _, s := range texts {
			if was.MatchString(s) != is.MatchString(s) {
				t.Errorf("%q became %q: %q was %t", expression, text, s, was.MatchString(s))
			}
		}
	}

	if _, err := anchored("("); err == nil {
		t.Error("( is no expression")
	}
}

// TestGlobDialects holds that a translated pattern matches the same
// repositories as it did where it comes from.
func TestGlobDialects(t *testing.T) {
	names := []string{
		"r.example/a",
		"r.example/a/b",
		"r.example/a/b/c",
		"r.example/x/a",
		"ar.example/a",
		"a.r.example/a",
		"q.example/r.example/a",
		"docker.io/library/a",
		"r.example/ab",
	}
	for _, pattern := range []string{
		"**",
		"r.example/**",
		"r.example/*",
		"r.example/a*",
		"r.example/a**",
		"r.example/**/b*",
		"**/a*",
		"**r.example/**",
		"*r.example/a*",
		"r.example/*/b*",
		"**.r.example/*",
	} {
		source := strings.NewReplacer(`\.`, `\.`, "**", ".*", "*", "[^/]*", ".", `\.`).Replace(pattern)
		was := regexp.MustCompile("^" + source + "$")
		for _, name := range names {
			// As there, a pattern is held against the name with a tag.
			want := was.MatchString(name + ":v1")
			got := false
			for _, text := range dialect(pattern) {
				g, err := policy.ParseGlob(text)
				if err != nil {
					t.Fatalf("%s: %v", text, err)
				}
				got = got || g.Match(name)
			}

			if want != got {
				t.Errorf("%s matches %s: was %t, is %t (%v)", pattern, name, want, got, dialect(pattern))
			}
		}
	}
}
