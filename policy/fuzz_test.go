package policy

import (
	"regexp"
	"strings"
	"testing"
)

// FuzzIdentity holds that a pattern means the whole of a text, as a regular
// expression without anchors says by its longest match, and that claims count as
// a workflow of acme only if they say exactly so.
func FuzzIdentity(f *testing.F) {
	for _, seed := range [][2]string{
		{`acme`, "acme"},
		{`acme`, "evil-acme"},
		{`a|b`, "ab"},
		{`a)|(?:b`, "b"},
		{`\Qa`, "a"},
		{`a\Q`, "a"},
		{`(?m)^a$`, "a\nb"},
		{`(?i)A`, "a"},
		{`.*`, "a\nb"},
		{`(?s).*`, "a\nb"},
		{`a*`, ""},
		{`$`, "\n"},
		{`a\z|b`, "a"},
		{`a\b`, "a"},
		{`(?U)a+`, "aa"},
		{`[^x]`, "\xff"},
	} {
		f.Add(
			seed[0],
			seed[1],
			"https://github.com/acme",
			"https://github.com/acme/app",
			"https://github.com/acme/app/.github/workflows/a.yml@refs/heads/main",
		)
	}

	workflow := Identity{
		Issuer: Exactly(gitHubIssuer),
		GitHub: &GitHub{Server: "https://github.com", Owner: "acme", Workflow: ".github/workflows/a.yml"},
	}
	f.Fuzz(func(t *testing.T, expression, text, owner, repository, signer string) {
		if p, err := ParsePattern(expression); err == nil {
			re := regexp.MustCompile(expression)
			re.Longest()
			at := re.FindStringIndex(text)
			whole := text != "" && at != nil && at[0] == 0 && at[1] == len(text)
			if p.Match(text) != whole {
				t.Errorf("%q of %q: %t, want %t", expression, text, !whole, whole)
			}
		}

		claims := Claims{
			Issuer:  gitHubIssuer,
			Subject: signer,
			Values:  map[string]string{claimOwner: owner, claimRepository: repository, claimBuildSigner: signer},
		}
		if workflow.Match(claims) == nil {
			ref, ours := strings.CutPrefix(signer, repository+"/.github/workflows/a.yml@")
			if owner != "https://github.com/acme" || repository == "" || !ours || !isRef(ref) {
				t.Errorf("counts as a workflow of acme: %q %q %q", owner, repository, signer)
			}
		}

		if workflow.Match(Claims{Issuer: text, Values: claims.Values}) == nil && text != gitHubIssuer {
			t.Errorf("counts as GitHub: %q", text)
		}
	})
}

// FuzzExpression holds that compiling and evaluating any text ends, with an
// answer or an error.
func FuzzExpression(f *testing.F) {
	for _, s := range []string{
		`true`,
		`predicate.a == 1`,
		`predicate.l.all(x, predicate.l.all(y, x + y > 0))`,
		`predicate`,
		`"a".matches("(((a{30}){30}){30})")`,
		`subject.exists(s, s.digest.sha256 == image.digest.substring(7))`,
		`has(predicate.a) && predicate.a.b.c`,
		`[1,2,3].map(x, [1,2,3].map(y, [x, y])).size() == 3`,
		`timestamp("2026-01-01T00:00:00Z") < timestamp(predicate.t)`,
		`1/0 == 1`,
		`predicate.t + predicate.t == ""`,
		strings.Repeat("(", 300),
		strings.Repeat("!", 300) + "true",
		`dyn(predicate.l)[100] == 1`,
		`{"a": predicate}.a.l[0] == 1.0`,
		`duration("1h") > duration("1m")`,
		`b"\xff" == b""`,
		`image.name.contains(predicateType)`,
	} {
		f.Add(s)
	}

	var list []any
	for i := range 100 {
		list = append(list, float64(i))
	}

	statement := Statement{
		Predicate: map[string]any{
			"a": 1.0,
			"l": list,
			"t": strings.Repeat("a", 1000),
			"n": nil,
			"b": true,
			"m": map[string]any{"x": "y"},
		},
		PredicateType: "https://slsa.dev/provenance/v1",
		Subject:       []any{map[string]any{"name": "x", "digest": map[string]any{"sha256": "00"}}},
		Image:         "reg.example/app",
		Digest:        "sha256:00",
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := ParseExpression(text)
		if err != nil {
			return
		}
		if e.String() != text {
			t.Errorf("%q became %q", text, e)
		}
		if err := e.Holds(t.Context(), statement); err != nil && len(err.Error()) > 2000 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
	})
}
