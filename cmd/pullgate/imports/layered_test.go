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

const (
	keyOne = `
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE/EluMntL32twQOVLY0YwfgMl4HFu
Z6NKnqBzvR45dFduVsghcKqLPj4R3Lu0tK4dv1JQEvnNwAO1nJavqrb3Og==
-----END PUBLIC KEY-----
`
	keyTwo = `
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEX3R7HBVgBn7rlotFadSTwYkFhjU1
6dI6RslwYvaluVWLCYYgm6k1nztrCEBsFfG1/cZNLIrl5QUmRTMY9RkDgg==
-----END PUBLIC KEY-----
`
)

// TestLayered imports what teams write on top of each other: a policy for all
// images of an organization, and one for some of them. Where one signature
// satisfies both, one is asked for; where it only may, that is listed.
func TestLayered(t *testing.T) {
	cip := func(wide, narrow string) string {
		one := func(name, glob, authorities string) string {
			return "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\n" +
				"metadata: {name: " + name + "}\nspec:\n  images: [{glob: \"" + glob + "\"}]\n" +
				"  authorities: [" + authorities + "]\n"
		}
		return one("org", "r.example/acme/**", wide) + "---\n" + one("prod", "r.example/acme/prod/**", narrow)
	}
	keyless := func(identity string) string {
		return `{keyless: {identities: [{issuer: "https://i.example", ` + identity + `}]}}`
	}
	key := func(pem string) string { return fmt.Sprintf("{key: {data: %q}}", pem) }

	kyverno := func(wide, narrow string) string {
		one := func(name, glob, entries string) string {
			return "  - name: " + name + "\n    verifyImages: [{imageReferences: [\"" + glob + "\"], attestors: [" +
				entries + "]}]\n"
		}
		return "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {name: p}\n" +
			"spec:\n  validationFailureAction: Enforce\n  rules:\n" +
			one("org", "r.example/acme/*", wide) + one("prod", "r.example/acme/prod/*", narrow)
	}
	entry := func(identity string) string {
		return `{entries: [{keyless: {issuer: "https://i.example", ` + identity + `}}]}`
	}

	for name, c := range map[string]struct {
		format, text string
		threshold    int
		stricter     bool
	}{
		"a text in an expression": {
			"clusterimagepolicy",
			cip(keyless(`subjectRegExp: '@acme\.example$'`), keyless("subject: dev@acme.example")),
			1, false,
		},
		"an expression in an expression": {
			"clusterimagepolicy",
			cip(
				keyless(`subjectRegExp: '^https://git\.example/acme/'`),
				keyless(`subjectRegExp: '^https://git\.example/acme/app/.+@refs/tags/v[0-9]+$'`),
			),
			1, false,
		},
		"one of several": {
			"clusterimagepolicy",
			cip(
				key(keyOne)+", "+keyless("subject: dev@acme.example")+", "+keyless("subject: ops@acme.example"),
				keyless("subject: ops@acme.example"),
			),
			1, false,
		},
		"a key of several": {"clusterimagepolicy", cip(key(keyOne)+", "+key(keyTwo), key(keyTwo)), 1, false},
		"all of the same":  {"clusterimagepolicy", cip(key(keyOne), key(keyOne)), 1, false},
		"others": {
			"clusterimagepolicy",
			cip(keyless("subject: dev@acme.example"), keyless("subject: ops@acme.example")),
			2, false,
		},
		"expressions apart": {
			"clusterimagepolicy",
			cip(keyless(`subjectRegExp: '^https://git\.example/'`), keyless(`subjectRegExp: '@acme\.example$'`)),
			2, true, // https://git.example/@acme.example is both
		},
		"expressions that end otherwise": {
			"clusterimagepolicy",
			cip(keyless(`subjectRegExp: '@other\.example$'`), keyless(`subjectRegExp: '@acme\.example$'`)),
			2, false,
		},
		"another root": {
			"clusterimagepolicy",
			cip(
				`{keyless: {url: "https://fulcio.acme.example", `+
					`identities: [{issuer: "https://i.example", subjectRegExp: .*}]}}`,
				keyless("subject: dev@acme.example"),
			),
			2, true,
		},
		"a key and a log": {
			"clusterimagepolicy",
			cip(
				fmt.Sprintf(`{key: {data: %q}, ctlog: {url: "https://rekor.sigstore.dev"}}`, keyOne)+", "+key(keyTwo),
				key(keyTwo),
			),
			1, false,
		},
		"halfway": {
			"clusterimagepolicy",
			cip(keyless(`subjectRegExp: '^dev@'`), keyless(`subjectRegExp: '@acme\.example$'`)),
			2, true,
		},
		"a signature and an attestation": {
			"clusterimagepolicy",
			cip(
				keyless(`subjectRegExp: '@acme\.example$'`),
				`{keyless: {identities: [{issuer: "https://i.example", subject: dev@acme.example}]}, `+
					`attestations: [{name: a, predicateType: slsaprovenance1}]}`,
			),
			2, true,
		},
		"an attestation and another's": {
			"clusterimagepolicy",
			cip(
				`{keyless: {identities: [{issuer: "https://i.example", subjectRegExp: '@acme\.example$'}]}, `+
					`attestations: [{name: a, predicateType: slsaprovenance1}]}`,
				`{keyless: {identities: [{issuer: "https://i.example", subject: dev@acme.example}]}, `+
					`attestations: [{name: a, predicateType: slsaprovenance1}]}`,
			),
			1, false,
		},
		"Kyverno's wildcards": {
			"kyverno",
			kyverno(entry(`subject: "*@acme.example"`), entry(`subject: "dev-*@acme.example"`)),
			1, false,
		},
		"Kyverno, halfway": {
			"kyverno",
			kyverno(entry(`subject: "*@acme.example"`), entry(`subject: "dev@*"`)),
			2, true,
		},
		"Kyverno, claims": {
			"kyverno",
			kyverno(
				entry(`subject: "*", additionalExtensions: {githubWorkflowTrigger: "*"}`),
				entry(`subject: "*@acme.example", additionalExtensions: {githubWorkflowTrigger: push}`),
			),
			1, false,
		},
		"Kyverno, other claims": {
			"kyverno",
			kyverno(
				entry(`subject: "*", additionalExtensions: {githubWorkflowTrigger: push}`),
				entry(`subject: "*@acme.example", additionalExtensions: {githubWorkflowName: release}`),
			),
			2, true,
		},
		"Kyverno, all entries": {
			"kyverno",
			kyverno(
				`{entries: [{keyless: {issuer: "https://i.example", subject: "*@acme.example"}}, `+
					`{keyless: {issuer: "https://i.example", subject: "dev@acme.example"}}]}`,
				entry(`subject: "d*@acme.example"`),
			),
			1, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			result := Convert(c.format, []File{{"f", []byte(c.text)}})
			for _, problem := range result.Problems {
				t.Fatal(problem)
			}

			set := load(t, result.YAML)
			repository := policy.Repository{Host: "r.example", Path: "acme/prod/app"}
			p := set.For(repository, "sha256:"+strings.Repeat("a", 64), policy.Client{})
			if p.Threshold != c.threshold {
				t.Errorf("threshold %d, want %d\n%s", p.Threshold, c.threshold, result.YAML)
			}
			if listed := listsStricter(result.Losses); listed != c.stricter {
				t.Errorf("listed as stricter: %t, want %t\n%v\n%s", listed, c.stricter, result.Losses, result.YAML)
			}
		})
	}
}

func listsStricter(losses []policy.Problem) bool {
	return slices.ContainsFunc(losses, func(p policy.Problem) bool {
		return strings.Contains(p.Message, "is stricter here: one signer")
	})
}

// TestLayeredSigners makes rules whose identities overlap, and tries them with
// every set of people who signed: an image that a rule refuses is refused, and
// one that is refused though every rule admits it is listed as stricter.
func TestLayeredSigners(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	people := []string{"dev@acme.example", "ops@acme.example", "dev@other.example", "x@other.example"}
	identities := []identity{
		{issuer: "i", subject: people[0]},
		{issuer: "i", subject: people[1]},
		{issuer: "i", subjectRegExp: `.*@acme\.example`},
		{issuer: "i", subjectRegExp: `dev@.*`},
		{issuer: "i", subjectRegExp: `(?:dev|ops)@acme\.example`},
		{issuerRegExp: `i|j`, subjectRegExp: `.+`},
		{issuer: "i", subjectRegExp: `[^@]+@other\.example`},
	}
	is := func(who authority, person string) bool {
		return slices.ContainsFunc(who.identities, func(id identity) bool {
			return id.subject == person || id.subject == "" &&
				regexp.MustCompile(`\A(?:`+id.subjectRegExp+`)\z`).MatchString(person)
		})
	}
	matches := map[string][]bool{}
	for _, id := range identities {
		for _, person := range people {
			key := fmt.Sprint(id.subject, " ", id.subjectRegExp)
			matches[key] = append(matches[key], is(authority{identities: []identity{id}}, person))
		}
	}
	is = func(who authority, person string) bool {
		i := slices.Index(people, person)
		return slices.ContainsFunc(who.identities, func(id identity) bool {
			return matches[fmt.Sprint(id.subject, " ", id.subjectRegExp)][i]
		})
	}

	everything := everywhere(value{r: &report{}})
	carried, stricter, admitted := 0, 0, 0
	for range 8000 {
		r := &report{}
		at := value{strictyaml.Value{File: "f", Node: &yaml.Node{}}, r}
		var rules []rule
		for i := range 1 + rng.IntN(3) {
			a := rule{value: at, name: fmt.Sprint("rule ", i), places: []place{everything}}
			for range 1 + rng.IntN(2) {
				n := need{}
				for _, j := range rng.Perm(len(identities))[:1+rng.IntN(3)] {
					n.who = append(n.who, authority{identities: identities[j : j+1]})
				}
				n.count = 1 + rng.IntN(len(n.who))
				a.needs = append(a.needs, n)
			}
			rules = append(rules, a)
		}

		policies := merge(r, rules)
		if len(r.problems) > 0 {
			continue
		}
		carried++
		listed := listsStricter(r.losses)
		if listed {
			stricter++
		}

		p := policies[0]
		for set := range 1 << len(people) {
			var signed []string
			for i, person := range people {
				if set&(1<<i) != 0 {
					signed = append(signed, person)
				}
			}

			want := true
			for _, a := range rules {
				for _, n := range a.needs {
					count := 0
					for _, who := range n.who {
						if slices.ContainsFunc(signed, func(person string) bool { return is(who, person) }) {
							count++
						}
					}
					want = want && count >= n.count
				}
			}

			got := standing(p.authorities, signed, is, max(p.threshold, 1))
			switch {
			case got && !want:
				t.Fatalf("signed by %v: admitted, and a rule refuses it\n%+v\n%+v", signed, rules, p)
			case want && !got && !listed:
				t.Fatalf("signed by %v: refused, and nothing says so\n%+v\n%+v", signed, rules, p)
			case got:
				admitted++
			}
		}
	}

	if carried < 1500 || stricter < 200 || stricter > carried-400 || admitted < 1000 {
		t.Errorf("%d sets of rules were carried, %d listed, %d sets of signers admitted", carried, stricter, admitted)
	}
}

// standing reports whether so many authorities, the required ones among them,
// each have a signer of their own.
func standing(authorities []authority, signed []string, is func(authority, string) bool, threshold int) bool {
	if len(authorities) == 0 {
		return threshold <= 0
	}

	first, rest := authorities[0], authorities[1:]
	if !first.required && standing(rest, signed, is, threshold) {
		return true
	}
	for i, person := range signed {
		others := slices.Delete(slices.Clone(signed), i, i+1)
		if is(first, person) && standing(rest, others, is, threshold-1) {
			return true
		}
	}
	return false
}

// TestComparing holds what is said about two expressions against all short
// texts.
func TestComparing(t *testing.T) {
	var texts []string
	for length, last := 1, []string{""}; length <= 4; length++ {
		var next []string
		for _, text := range last {
			for _, letter := range []string{"a", "b", "\n", "A"} {
				next = append(next, text+letter)
			}
		}
		texts, last = append(texts, next...), next
	}

	expressions := []string{
		"a", "b", "a|b", "ab", "a.*", ".*a", ".*", ".+", "(?s).*", "[ab]+", "[^a]+", "a+", "(?i)a+", "a?b?", "(ab)+",
		"^a.*", "a$", "^a|b$", ".*a.*", "a{2}", "a{1,3}", "(?:a|b)*b", `a\b.*`, "(?m)^a", "", "A*", "$^", "a.", "\\n",
	}
	insides, aparts := 0, 0
	for _, one := range expressions {
		for _, other := range expressions {
			var c comparing
			a, b := regexp.MustCompile(`\A(?:`+one+`)\z`), regexp.MustCompile(`\A(?:`+other+`)\z`)
			inside, meet := true, false
			for _, text := range texts {
				inside = inside && (!a.MatchString(text) || b.MatchString(text))
				meet = meet || a.MatchString(text) && b.MatchString(text)
			}

			looks := strings.Contains(one+other, `\b`) || strings.Contains(one+other, "(?m)")
			if c.inside(one, other) != inside && (!looks || !inside) {
				t.Errorf("%q inside %q: %t, want %t", one, other, !inside, inside)
			}
			if c.meet(one, other) != meet && (!looks || meet) && one != other {
				t.Errorf("%q meets %q: %t, want %t", one, other, !meet, meet)
			}
			if inside {
				insides++
			}
			if !meet {
				aparts++
			}
		}
	}
	if insides < 100 || aparts < 100 {
		t.Errorf("%d inside, %d apart", insides, aparts)
	}

	t.Run("too large", func(t *testing.T) {
		var c comparing
		wide := ".*" + strings.Repeat("[ab].{30}", 12) + ".*"
		if c.inside("(?:a|b)*a"+strings.Repeat("(?:a|b)", 60), wide) {
			t.Error("a comparison that is not done is affirmed")
		}
		if !c.meet("(?:a|b)*a"+strings.Repeat("(?:a|b)", 60), "(?:a|b)*b"+strings.Repeat("(?:a|b)", 60)+"c") {
			t.Error("a comparison that is not done denies")
		}
		if c.spent > 3*maxComparison {
			t.Errorf("%d instructions", c.spent)
		}
	})
}
