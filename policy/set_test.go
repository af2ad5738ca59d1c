package policy

import (
	"crypto/x509"
	"reflect"
	"testing"
	"time"
)

func TestSetFor(t *testing.T) {
	one, two := testDigest('1'), testDigest('2')
	set := load(t, `
- {name: blocked, digests: ["`+one+`"], static: deny}
- {name: pinned, images: ["ghcr.io/acme/*"], digests: ["`+two+`"], static: allow}
- {name: acme, images: ["ghcr.io/acme/**"], authorities: [{key: a.pub}]}
- {name: hub, images: ["docker.io/nginx", "docker.io/acme/*"], static: allow}
- {name: never, images: ["bad.example/**"], static: deny}
`, "deny")
	for _, row := range []struct{ repo, digest, want string }{
		{"ghcr.io/acme/app", one, "blocked"},
		{"other.example/x", one, "blocked"},
		{"ghcr.io/acme/app", two, "pinned"},
		{"ghcr.io/acme/team/app", two, "acme"},
		{"ghcr.io/other", two, "defaultAction"},
		{"ghcr.io/acme/app", testDigest('3'), "acme"},
		{"docker.io/library/nginx", testDigest('3'), "hub"},
		{"docker.io/acme/x", "", "hub"},
		{"docker.io/library/redis", "", "defaultAction"},
		{"bad.example/a/b", "", "never"},
	} {
		t.Run(row.repo+"@"+row.digest, func(t *testing.T) {
			if got := set.For(repo(t, row.repo), row.digest, Client{}); got.Name != row.want {
				t.Errorf("%q decides, want %q", got.Name, row.want)
			}
		})
	}
}

func TestDefaultAction(t *testing.T) {
	for _, row := range []struct {
		action string
		static Action
		mode   Mode
		could  bool
	}{
		{"", Deny, Enforce, false},
		{"deny", Deny, Enforce, false},
		{"warn", Deny, Warn, true},
		{"allow", Allow, Enforce, true},
	} {
		set := load(t, "[]", row.action)
		p := set.For(repo(t, "a.b/c"), "", Client{})
		if p.Name != "defaultAction" || !p.Where.IsZero() || p.Hash == "" ||
			p.Static != row.static || p.Mode != row.mode {
			t.Errorf("%q: %+v", row.action, p)
		}
		if got := set.CouldAllow(repo(t, "a.b/c"), Client{}); got != row.could {
			t.Errorf("%q: CouldAllow %v", row.action, got)
		}
	}

	for _, set := range []*Set{nil, {}} {
		if p := set.For(repo(t, "a.b/c"), "", Client{}); p.Static != Deny || p.Mode != Enforce {
			t.Errorf("the zero Set decides %+v", p)
		}
		if set.CouldAllow(repo(t, "a.b/c"), Client{}) || set.Policies() != nil || set.Files() != nil {
			t.Error("the zero Set could allow something")
		}
	}
}

func TestCouldAllow(t *testing.T) {
	one, two := testDigest('1'), testDigest('2')
	set := load(t, `
- {name: blocked, digests: ["`+one+`"], static: deny}
- {name: one-of-bad, images: ["bad.example/one"], digests: ["`+two+`"], static: allow}
- {name: bad, images: ["bad.example/**"], static: deny}
- {name: ended, images: ["old.example/**"], static: allow, expires: 2026-01-31}
- {name: keyed, images: ["ghcr.io/**"], authorities: [{key: a.pub}]}
`, "deny")
	ended := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	for _, row := range []struct {
		repo string
		now  time.Time
		want bool
	}{
		{"bad.example/one", ended, true},
		{"bad.example/two", ended, false},
		{"old.example/x", ended.Add(-time.Second), true},
		{"old.example/x", ended, false},
		{"ghcr.io/x", ended, true},
		{"else.example/x", ended, false},
	} {
		if got := set.couldAllow(repo(t, row.repo), Client{}, row.now); got != row.want {
			t.Errorf("%s could be allowed: %v, want %v", row.repo, got, row.want)
		}
	}

	allowed := load(t, `[{name: one, digests: ["`+one+`"], static: allow}]`, "deny")
	if !allowed.CouldAllow(repo(t, "any.example/x"), Client{}) {
		t.Error("a policy for digests alone does not count")
	}
}

// A policy that names digests alone opens no repository.
func TestOpens(t *testing.T) {
	digests := `digests: ["` + testDigest('1') + `"]`
	for name, row := range map[string]struct {
		policies, action string
		want             bool
	}{
		"digests alone":            {`[{name: one, ` + digests + `, static: allow}]`, "deny", false},
		"digests alone, verified":  {`[{name: one, ` + digests + `, authorities: [{key: a.pub}]}]`, "deny", false},
		"digests and images":       {`[{name: one, images: ["a.b/*"], ` + digests + `, static: allow}]`, "deny", true},
		"digests and other images": {`[{name: one, images: ["a.c/*"], ` + digests + `, static: allow}]`, "deny", false},
		"images":                   {`[{name: one, images: ["a.b/*"], static: allow}]`, "deny", true},
		"images denied":            {`[{name: one, images: ["a.b/*"], static: deny}]`, "allow", false},
		"images denied, one digest": {
			`[{name: one, ` + digests + `, static: allow}, {name: d, images: ["a.b/*"], static: deny}]`, "deny", false,
		},
		"nothing, by default": {`[{name: one, ` + digests + `, static: deny}]`, "allow", true},
		"nothing, warned of":  {`[{name: one, ` + digests + `, static: deny}]`, "warn", true},
	} {
		t.Run(name, func(t *testing.T) {
			set := load(t, row.policies, row.action)
			if got := set.Opens(repo(t, "a.b/c"), Client{}); got != row.want {
				t.Errorf("opens: %v, want %v", got, row.want)
			}
		})
	}
	if (*Set)(nil).Opens(repo(t, "a.b/c"), Client{}) {
		t.Error("no policies open a repository")
	}
}

// TestHashCoversEveryField changes each field of Policy, of its authorities
// and keys, found by reflection so that a new one cannot be forgotten.
func TestHashCoversEveryField(t *testing.T) {
	without := map[string]bool{
		"Where":                   true,
		"Hash":                    true,
		"Authorities.Keys.Source": true,
		"Authorities.Keys.Public": true,

		"SignatureRepository.Scope": true, // a reader's, never a policy's
	}
	sample := func() *Policy {
		return &Policy{
			Name:    "n",
			Images:  []Glob{glob(t, "a.b/c")},
			Digests: []string{"d"},
			Clients: []Clients{clients(t, "user:a")},
			Authorities: []Authority{{
				Name:       "a",
				Keys:       []Key{{ID: "k"}},
				KMS:        []string{"s"},
				TrustRoots: []string{"r"},
				Accept:     []string{"t"},
				Identities: []Identity{{
					Issuer:  Exactly("i"),
					Subject: Exactly("s"),
					Claims:  map[string]Pattern{"buildTrigger": Exactly("push")},
					GitHub:  &GitHub{Server: "x"},
				}},
				PKI: &Certificate{
					Roots:         []*x509.Certificate{{Raw: []byte("r")}},
					Intermediates: []*x509.Certificate{{Raw: []byte("m")}},
					Subject:       Exactly("s"),
				},
			}},
			Attestations: []Attestation{{Name: "n", Type: "t", Authorities: []string{"a"}, CEL: expression(t, "true")}},
			Threshold:    1,
			Annotations:  map[string]string{"a": "b"},
		}
	}

	before := hashPolicy(sample())
	seen := map[string]string{before: "nothing"}
	change := func(path string, set func(p *Policy)) {
		p := sample()
		set(p)
		hash := hashPolicy(p)
		if without[path] {
			if hash != before {
				t.Errorf("%s changes the hash", path)
			}
			return
		}

		if other, same := seen[hash]; same {
			t.Errorf("changing %s hashes like changing %s", path, other)
		}
		seen[hash] = path
	}

	var walk func(path string, of reflect.Type, find func(p *Policy) reflect.Value)
	walk = func(path string, of reflect.Type, find func(p *Policy) reflect.Value) {
		for i := range of.NumField() {
			name := of.Field(i).Name
			if !of.Field(i).IsExported() {
				continue // compiled from those that are
			}
			if path != "" {
				name = path + "." + name
			}
			field := func(p *Policy) reflect.Value { return find(p).Field(i) }
			switch value := field(sample()); value.Interface().(type) {
			case []Authority, []Key, []Identity, []Attestation:
				change(name, func(p *Policy) { field(p).Set(reflect.Zero(value.Type())) })
				walk(name, value.Type().Elem(), func(p *Policy) reflect.Value { return field(p).Index(0) })
			case Repository:
				walk(name, value.Type(), field)
			case *Certificate, *GitHub:
				change(name, func(p *Policy) { field(p).SetZero() })
				walk(name, value.Type().Elem(), func(p *Policy) reflect.Value { return field(p).Elem() })
			case Pattern:
				change(name, func(p *Policy) { field(p).Set(reflect.ValueOf(Exactly("another"))) })
				same := expressionPattern(t, value.Interface().(Pattern).text)
				change(name+" as an expression", func(p *Policy) { field(p).Set(reflect.ValueOf(same)) })
			case map[string]Pattern:
				change(name, func(p *Policy) {
					field(p).Set(reflect.ValueOf(map[string]Pattern{"buildTrigger": Exactly("x")}))
				})
				change(name+" key", func(p *Policy) {
					field(p).Set(reflect.ValueOf(map[string]Pattern{"runnerEnvironment": Exactly("push")}))
				})
			case []*x509.Certificate:
				change(name, func(p *Policy) {
					field(p).Set(reflect.ValueOf([]*x509.Certificate{{Raw: []byte("another")}}))
				})
			case Position:
				change(name, func(p *Policy) { field(p).Set(reflect.ValueOf(Position{File: "changed", Line: 2})) })
			case *Expression:
				change(name, func(p *Policy) { field(p).Set(reflect.ValueOf(expression(t, "false"))) })
			case []Glob:
				change(name, func(p *Policy) { field(p).Set(reflect.ValueOf([]Glob{glob(t, "a.b/d")})) })
			case []Clients:
				change(name, func(p *Policy) { field(p).Set(reflect.ValueOf([]Clients{clients(t, "user:b")})) })
				change(
					name+" network",
					func(p *Policy) { field(p).Set(reflect.ValueOf([]Clients{clients(t, "10.0.0.0/8")})) },
				)
				change(name+" none", func(p *Policy) { field(p).SetZero() })
			case []string:
				change(name, func(p *Policy) { field(p).Set(reflect.ValueOf([]string{"e"})) })
			case map[string]string:
				change(name, func(p *Policy) { field(p).Set(reflect.ValueOf(map[string]string{"a": "c"})) })
				change(name+" key", func(p *Policy) { field(p).Set(reflect.ValueOf(map[string]string{"c": "b"})) })
			case time.Time:
				change(name, func(p *Policy) { field(p).Set(reflect.ValueOf(time.Unix(9, 0))) })
			default:
				switch value.Kind() {
				case reflect.String:
					change(name, func(p *Policy) { field(p).SetString("changed") })
				case reflect.Int:
					change(name, func(p *Policy) { field(p).SetInt(2) })
				case reflect.Bool:
					change(name, func(p *Policy) { field(p).SetBool(true) })
				case reflect.Interface:
					change(name, func(p *Policy) { field(p).Set(reflect.ValueOf("changed")) })
				default:
					t.Errorf("%s: teach this test and hashPolicy about %s", name, value.Type())
				}
			}
		}
	}

	walk("", reflect.TypeFor[Policy](), func(p *Policy) reflect.Value { return reflect.ValueOf(p).Elem() })
	if len(seen) < 14 {
		t.Errorf("only %d fields were changed", len(seen))
	}
}

func repo(t testing.TB, s string) Repository {
	t.Helper()
	r, err := ParseRepository(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func expression(t *testing.T, text string) *Expression {
	t.Helper()
	e, err := ParseExpression(text)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func expressionPattern(t *testing.T, text string) Pattern {
	t.Helper()
	p, err := ParsePattern(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
