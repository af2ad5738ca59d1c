package policy

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

func TestLoad(t *testing.T) {
	dir := keyDir(t)
	inline := indent(string(publicPEM(t, ecKey(t, elliptic.P384()))), "        ")
	write(t, dir, "policies/b.yaml", `policies: [{name: b, images: ["b.example/**"], static: deny}]`)
	write(t, dir, "policies/a.yaml", `[{name: a, images: ["a.example/**"], authorities: [{key: ../a.pub}]}]`)
	write(t, dir, "last.yaml", "policies: []")
	set, problems := Load(Input{
		ConfigFile: "config.yaml",
		Dir:        dir,
		Files:      []string{"policies/*.yaml", "policies/a.yaml", "last.yaml", "none*.yaml"},
		Inline: node(t, `
- name: full
  images: ["reg.example/prod/**", "reg.example/x"]
  digests: ["`+testDigest('a')+`", "sha512:`+strings.Repeat("b", 128)+`"]
  mode: warn
  expires: 2027-03-01
  threshold: 1
  children: own
  signatureRepository: sigs.example/all
  annotations: {Env.Name: "Prod.1"}
  authorities:
    - name: release
      keys: [a.pub, b.pub]
      transparencyLog: ignore
      timestamp: ignore
      required: false
      accept: [signature]
    - key: |
`+inline+`
`),
	})
	report(t, problems)
	var names []string
	for _, p := range set.Policies() {
		names = append(names, p.Name)
	}
	if want := []string{"full", "a", "b"}; !slices.Equal(names, want) {
		t.Errorf("policies %q, want %q", names, want)
	}

	p := set.Policies()[0]
	ends := time.Date(2027, 3, 2, 0, 0, 0, 0, time.UTC)
	signatures := Repository{Host: "sigs.example", Path: "all"}
	if p.Where.String() != "config.yaml:2" || len(p.Images) != 2 || len(p.Digests) != 2 ||
		p.Mode != Warn || p.Static != Verify || !p.Expires.Equal(ends) || p.Threshold != 1 || !p.OwnChildren ||
		p.SignatureRepository != signatures || p.Annotations["Env.Name"] != "Prod.1" || len(p.Hash) != 64 {
		t.Errorf("read as %+v", p)
	}

	if a := p.Authorities; len(a) != 2 ||
		a[0].Name != "release" || len(a[0].Keys) != 2 || a[0].Keys[1].Source != "b.pub" ||
		!strings.HasPrefix(a[1].Name, "key ") || len(a[1].Keys) != 1 ||
		a[1].Keys[0].Source != "inline" || len(a[1].Keys[0].ID) != 64 {
		t.Errorf("authorities read as %+v", a)
	}

	if q := set.Policies()[1]; q.Threshold != 1 || q.Authorities[0].Name != "../a.pub" ||
		!strings.HasSuffix(q.Where.String(), "policies/a.yaml:1") {
		t.Errorf("read as %+v", q)
	}

	for _, file := range []string{"a.pub", "b.pub", "policies/a.yaml", "policies/b.yaml", "last.yaml"} {
		if !slices.Contains(set.Files(), filepath.Join(dir, file)) {
			t.Errorf("%s is not among the files %q", file, set.Files())
		}
	}
}

func TestLoadErrors(t *testing.T) {
	const image = `images: ["a.b/c"], `
	const keyed = `authorities: [{key: a.pub}]`
	one := `{name: one, ` + image
	for _, row := range []struct {
		name, yaml string
		line       int
		want       string
	}{
		{"no list", "{a: b}", 1, "policies must be a list"},
		{"null", "~", 1, "policies must be a list, not empty"},
		{"no mapping", "- one", 1, "a policy must be a mapping"},
		{"alias", "- &a " + one + "static: deny}\n- *a", 2, "aliases are not supported"},
		{
			"alias inside",
			"- " + one + "static: &s deny}\n- {name: t, images: [a.b/d],\n   static: *s}",
			3,
			"not an alias",
		},
		{"merge", "- {name: one,\n   <<: {static: deny}, " + image + "}", 2, "merge keys"},
		{"unknown", "- " + one + "static: deny,\n   Images: []}", 2, `unknown field "Images"`},
		{
			"duplicate",
			"- " + one + "static: deny,\n   static: allow}",
			2,
			`field "static" is there twice, first at line 1`,
		},
		{"no name", "-\n  {" + image + "static: deny}", 2, "no name"},
		{"empty name", "- {name: '', " + image + "static: deny}", 1, "printable"},
		{"control name", "- {name: \"a\\nb\", " + image + "static: deny}", 1, "printable"},
		{"number name", "- {name: 1, " + image + "static: deny}", 1, "must be text"},
		{"reserved name", "- {name: defaultAction, " + image + "static: deny}", 1, "taken"},
		{
			"same name",
			"- " + one + "static: deny}\n- {name: one, images: [a.b/d], static: deny}",
			2,
			"already used at config.yaml:1",
		},
		{
			"clients of no kind", "- {name: one, images: [a.b/c], static: deny,\n  clients: [ci]}", 2,
			"no pattern of clients",
		},
		{"no clients", "- {name: one, images: [a.b/c], static: deny,\n  clients: []}", 2, "clients is empty"},
		{"matches nothing", "- {name: one, static: deny}", 1, "no images and no digests"},
		{"empty images", "- {name: one, images: [], static: deny}", 1, "is empty"},
		{"empty digests", "- " + one + "digests: [], static: deny}", 1, "is empty"},
		{"images text", "- {name: one, images: a.b/c, static: deny}", 1, "must be a list"},
		{"tag", "- {name: one, static: deny, images: [\n   'a.b/c:v1']}", 2, "has a tag"},
		{"no host", "- {name: one, static: deny, images: [nginx]}", 1, "docker.io/library/nginx"},
		{
			"digest case",
			"- {name: one, static: deny, digests: ['sha256:" + strings.Repeat("A", 64) + "']}",
			1,
			"not a digest",
		},
		{
			"digest length",
			"- {name: one, static: deny, digests: ['sha512:" + strings.Repeat("a", 64) + "']}",
			1,
			"not a digest",
		},
		{"neither", "- " + one + "}", 1, "neither static nor authorities"},
		{"static value", "- " + one + "static: yes}", 1, `allow or deny, not "yes"`},
		{
			"static with authorities",
			"- " + one + "static: deny,\n   " + keyed + "}",
			2,
			"authorities has no effect with static",
		},
		{"static with threshold", "- " + one + "static: deny, threshold: 1}", 1, "threshold has no effect"},
		{"static with annotations", "- " + one + "static: allow, annotations: {a: b}}", 1, "annotations has no effect"},
		{"static with mode", "- " + one + "static: deny, mode: warn}", 1, "mode: warn has no effect"},
		{"mode value", "- " + one + keyed + ", mode: Warn}", 1, "enforce or warn"},
		{"children value", "- " + one + keyed + ", children: both}", 1, "index or own"},
		{"expires form", "- " + one + "static: allow,\n   expires: 2027-3-1}", 2, "YYYY-MM-DD"},
		{"expires never", "- " + one + "static: allow, expires: 0000-12-31}", 1, "YYYY-MM-DD"},
		{"expires deny", "- " + one + "static: deny, expires: 2027-03-01}", 1, "only for static: allow"},
		{"expires enforce", "- " + one + keyed + ", expires: 2027-03-01}", 1, "only for static: allow"},
		{"threshold zero", "- " + one + keyed + ", threshold: 0}", 1, "at least 1"},
		{"threshold type", "- " + one + keyed + ", threshold: '1'}", 1, "whole number"},
		{"threshold above", "- " + one + keyed + ", threshold: 2}", 1, "above the number of authorities, 1"},
		{
			"threshold three",
			"- " + one + "authorities: [{key: a.pub}, {key: b.pub}],\n   threshold: 3}",
			2,
			"above the number of authorities",
		},
		{"annotation type", "- " + one + keyed + ", annotations: {a: 1}}", 1, "must be text"},
		{"signatureRepository", "- " + one + keyed + ", signatureRepository: sigs}", 1, "registry host"},
		{"attestations", "- " + one + keyed + ",\n   attestations: []}", 2, "is empty"},
		{"attestation without a type", "- " + one + keyed + ",\n   attestations: [{cel: 'true'}]}", 2, "has no type"},
		{
			"attestation of an unknown type",
			"- " + one + keyed + ",\n   attestations: [{type: sbom}]}",
			2,
			"unknown type \"sbom\"",
		},
		{
			"attestation by an unknown authority",
			"- " + one + keyed + ",\n   attestations: [{type: vuln, authorities: [ci]}]}",
			2,
			"unknown authority \"ci\"",
		},
		{
			"attestation, cel broken",
			"- " + one + keyed + ",\n   attestations: [{type: vuln, cel: 'predicate.'}]}",
			2,
			"cel: does not compile",
		},
		{
			"attestation, cel no truth",
			"- " + one + keyed + ",\n   attestations: [{type: vuln, cel: '1 + 1'}]}",
			2,
			"must be true or false",
		},
		{
			"attestation, cel of an unknown name",
			"- " + one + keyed + ",\n   attestations: [{type: vuln, cel: 'tag == \"v1\"'}]}",
			2,
			"undeclared reference",
		},
		{"no authorities", "- " + one + "authorities: []}", 1, "is empty"},
		{"empty authority", "- " + one + "authorities: [{}]}", 1, "exactly one of key"},
		{"key and keys", "- " + one + "authorities: [{key: a.pub, keys: [b.pub]}]}", 1, "exactly one of key"},
		{"empty keys", "- " + one + "authorities: [{keys: []}]}", 1, "is empty"},
		{"authority field", "- " + one + "authorities: [{key: a.pub, cel: x}]}", 1, `unknown field "cel"`},
		{
			"authority name",
			"- " + one + "authorities: [{key: a.pub, name: x},\n   {key: b.pub, name: x}]}",
			2,
			"already used at line 1",
		},
		{
			"same key",
			"- " + one + "authorities: [{key: a.pub},\n   {key: sub/../a.pub}]}",
			2,
			"same key is already in this policy at line 1",
		},
		{"same key again", "- " + one + "authorities: [{keys: [a.pub,\n   a-copy.pub]}]}", 2, "same key"},
		{"keyless", "- " + one + "authorities: [{keyless: {}}]}", 1, "has no identities"},
		{"identity empty", "- " + one + "authorities: [{keyless: {identities: [{}]}}]}", 1, "has no issuer"},
		{
			"identity without an issuer",
			"- " + one + "authorities: [{keyless: {identities: [{subject: a@b.example}]}}]}",
			1,
			"has no issuer",
		},
		{
			"identity without a subject",
			"- " + one + "authorities: [{keyless: {identities: [{issuer: 'https://i.example'}]}}]}",
			1,
			"has no subject and no claims",
		},
		{
			"identity, both issuers",
			"- " + one + "authorities: [{keyless: {identities: [{issuer: x, issuerRegExp: x, subject: y}]}}]}",
			1,
			"both issuer and issuerRegExp",
		},
		{
			"identity, a star",
			"- " + one + "authorities: [{keyless: {identities: [{issuer: x, subject: 'https://github.com/acme/*'}]}}]}",
			1,
			"write subjectRegExp",
		},
		{
			"identity, a broken expression",
			"- " + one + "authorities: [{keyless: {identities: [{issuer: x, subjectRegExp: '('}]}}]}",
			1,
			"no valid regular expression",
		},
		{
			"identity, a huge expression",
			"- " + one + "authorities: [{keyless: {identities: [{issuer: x, subjectRegExp: '((a{100}){10}){10}'}]}}]}",
			1,
			"regular expression",
		},
		{
			"identity, an unknown claim",
			"- " + one + "authorities: [{keyless: {identities: [{issuer: x, claims: {repo: x}}]}}]}",
			1,
			"unknown field \"repo\"",
		},
		{
			"unknown trust root",
			"- " + one + "authorities: [{keyless: {trustRoots: [corp], identities: [{issuer: x, subject: y}]}}]}",
			1,
			"unknown trust root \"corp\"",
		},
		{
			"identity, an expression of two lines",
			"- " + one + "authorities: [{keyless: {identities: [{issuer: x, subjectRegExp: \"a\\nb\"}]}}]}",
			1,
			`must be printable: write \n for a line break`,
		},
		{
			"identity, an expression that escapes",
			"- " + one + "authorities: [{keyless: {identities: [{issuer: x, subjectRegExp: 'a)|(b'}]}}]}",
			1,
			"no valid regular expression",
		},
		{
			"identity, an expression that quotes its end",
			"- " + one + "authorities: [{keyless: {identities: [{issuer: x, subjectRegExp: 'a\\Q'}]}}]}",
			1,
			"no valid regular expression",
		},
		{
			"identity without evidence",
			"- " + one + "authorities: [{transparencyLog: ignore,\n   github: {owner: acme}}]}",
			1,
			"is the trust root's to say",
		},
		{
			"identity without a time",
			"- " + one + "authorities: [{github: {owner: acme},\n   timestamp: ignore}]}",
			2,
			"is the trust root's to say",
		},
		{
			"attestation that is a signature",
			"- " + one + keyed + ",\n   attestations: [{type: 'https://sigstore.dev/cosign/sign/v1'}]}",
			2,
			"demand it by authorities",
		},
		{
			"attestation, cel without end",
			"- " + one + keyed + ",\n   attestations: [{type: vuln, cel: '" + strings.Repeat("(", 5000) + "'}]}",
			2,
			"cel: does not compile",
		},
		{
			"attestation, cel too long",
			"- " + one + keyed + ",\n   attestations: [{type: vuln, cel: '" + strings.Repeat("!", 17000) + "true'}]}",
			2,
			"cel: is 17004 bytes long",
		},
		{"github", "- " + one + "authorities: [{github: {}}]}", 1, "either owner or repository"},
		{
			"github, workflow alone",
			"- " + one + "authorities: [{github: {workflow: .github/workflows/a.yml}}]}",
			1,
			"either owner or repository",
		},
		{
			"github, owner and repository",
			"- " + one + "authorities: [{github: {owner: acme, repository: acme/app}}]}",
			1,
			"either owner or repository",
		},
		{
			"github, owner with a star",
			"- " + one + "authorities: [{github: {owner: 'ac*'}}]}",
			1,
			"must look like acme",
		},
		{
			"github, workflow without its folder",
			"- " + one + "authorities: [{github: {owner: acme, workflow: release.yml}}]}",
			1,
			"must look like .github/workflows/",
		},
		{
			"github, branch for a ref",
			"- " + one + "authorities: [{github: {owner: acme, ref: main}}]}",
			1,
			"refs/heads/main",
		},
		{
			"github, another issuer",
			"- " + one + "authorities: [{github: {owner: acme, issuer: 'https://accounts.example'}}]}",
			1,
			"no issuer of GitHub Actions",
		},
		{"certificate", "- " + one + "authorities: [{certificate: {}}]}", 1, "has no rootsFile"},
		{
			"certificate without a subject",
			"- " + one + "authorities: [{certificate: {rootsFile: a.pub}}]}",
			1,
			"either subject or subjectRegExp",
		},
		{
			"certificate, key for roots",
			"- " + one + "authorities: [{certificate: {rootsFile: a.pub, subject: x}}]}",
			1,
			"not only certificates",
		},
		{"accept", "- " + one + "authorities: [{key: a.pub, accept: [signature,\n   sbom]}]}", 2, "unknown type"},
		{
			"accept twice",
			"- " + one + "authorities: [{key: a.pub, accept: [slsaprovenance,\n   slsaprovenance02]}]}",
			2,
			"there twice",
		},
		{"required", "- " + one + "authorities: [{key: a.pub, required: maybe}]}", 1, "true or false"},
		{"log", "- " + one + "authorities: [{key: a.pub, transparencyLog: maybe}]}", 1, "ignore or require"},
		{"timestamp", "- " + one + "authorities: [{key: a.pub, timestamp: maybe}]}", 1, "ignore or require"},
		{
			"trustRoot",
			"- " + one + "authorities: [{key: a.pub, transparencyLog: require, trustRoot: corp}]}",
			1,
			"unknown trust root \"corp\"",
		},
		{
			"trustRoot for nothing",
			"- " + one + "authorities: [{key: a.pub, trustRoot: public-good}]}",
			1,
			"has no effect",
		},
		{
			"trustRoot for an identity",
			"- " + one + "authorities: [{github: {owner: acme}, trustRoot: public-good}]}",
			1,
			"write trustRoots under github",
		},
		{
			"kms twice",
			"- " + one + "authorities: [{keys: ['awskms:///alias/x', 'awskms:///alias/x']}]}",
			1,
			"the same key is already",
		},
		{"kms of an unknown kind", "- " + one + "authorities: [{key: 'evil://x'}]}", 1, "is no key"},
		{"pkcs11", "- " + one + "authorities: [{key: 'pkcs11:token=x'}]}", 1, "pkcs11 keys are not read"},
		{"url", "- " + one + "authorities: [{key: 'https://a.b/c'}]}", 1, "is no key"},
		{"empty key", "- " + one + "authorities: [{key: ''}]}", 1, "is no key"},
		{"missing key", "- " + one + "authorities:\n   [{key: gone.pub}]}", 2, "no such file"},
		{"directory key", "- " + one + "authorities: [{key: .}]}", 1, "not a regular file"},
		{"large key", "- " + one + "authorities: [{key: large.pub}]}", 1, "larger than 64 KiB"},
		{
			"inline private key",
			"- " + one + "authorities: [{key: \"-----BEGIN PRIVATE KEY-----\\nAAAA\\n-----END PRIVATE KEY-----\"}]}",
			1,
			"private key",
		},
		{
			"unreachable",
			"- {name: w, images: ['a.b/**'], static: deny}\n- " + one + keyed + "}",
			2,
			`never reached: "w" (config.yaml:1)`,
		},
		{
			"unreachable by two",
			"- {name: w, images: ['a.b/**'], static: allow, expires: 2020-01-01}\n" +
				"- {name: x, images: ['b.c/**'], static: deny}\n" +
				"- {name: y, images: [b.c/d, a.b/c], static: deny}",
			3,
			`"w" (config.yaml:1) and "x" (config.yaml:2)`,
		},
		{
			"unreachable digest",
			"- {name: w, digests: ['" + testDigest('1') + "'], static: deny}\n" +
				"- " + one + "digests: ['" + testDigest('1') + "'], static: allow}",
			2,
			"never reached",
		},
		{
			"unreachable anywhere",
			"- {name: w, images: ['**'], static: deny}\n- {name: x, digests: ['" +
				testDigest('1') + "'], static: allow}",
			2,
			"never reached",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			set, problems := Load(Input{ConfigFile: "config.yaml", Dir: keyDir(t), Inline: node(t, row.yaml)})
			if !slices.ContainsFunc(problems, func(p Problem) bool {
				return p.File == "config.yaml" && p.Line == row.line && strings.Contains(p.Message, row.want)
			}) {
				t.Errorf("problems %v, want %q at line %d", problems, row.want, row.line)
			}

			if len(problems) > 2 {
				t.Errorf("one mistake gives %d problems: %v", len(problems), problems)
			}
			if set == nil || len(set.Policies()) > 0 || set.For(repo(t, "a.b/c"), "", Client{}).Static != Deny {
				t.Error("a refused Set does not deny everything")
			}
		})
	}
}

func TestReachable(t *testing.T) {
	load(t, `
- {name: a, images: ["a.b/**"], digests: ["`+testDigest('1')+`"], static: deny}
- {name: b, images: ["a.b/c"], digests: ["`+testDigest('1')+`", "`+testDigest('2')+`"], static: deny}
- {name: c, images: ["a.b/c", "x.y/z"], static: deny}
- {name: d, images: ["a.b/*"], static: deny}
- {name: e, images: ["a.b/**"], static: deny}
`, "")
	// What a policy with a bad glob matches is not known.
	_, problems := Load(Input{
		ConfigFile: "c",
		Inline:     node(t, `[{name: a, images: [nginx], static: deny}, {name: b, images: [a.b/c], static: deny}]`),
	})
	if len(problems) != 1 {
		t.Errorf("problems %v, want one", problems)
	}
}

func TestLoadFiles(t *testing.T) {
	for name, row := range map[string]struct {
		text, want string
		line       int
	}{
		"empty":                  {"# nothing\n", "holds no policies", 0},
		"null":                   {"policies:\n", "must be a list, not empty", 1},
		"syntax":                 {"policies:\n  - a: [\n", "yaml:", -1},
		"unknown":                {"policies: []\nmore: 1\n", `unknown field "more"`, 2},
		"roots":                  {"policies: []\ntrustRoots: [{file: x}]\n", "has no name", 2},
		"a root of neither kind": {"trustRoots:\n- {name: x}\n", "either file or tuf", 2},
		"a root without a start": {"trustRoots:\n- {name: x, tuf: {mirror: 'https://m.example'}}\n", "has no root", 2},
		"a root twice": {
			"trustRoots:\n- {name: x, tuf: {mirror: 'https://m.example', root: /dev/null}}\n" +
				"- {name: x, tuf: {mirror: 'https://m.example'}}\n",
			"already defined",
			3,
		},
		"a root of nowhere": {"trustRoots:\n- {name: x, tuf: {mirror: 'ftp://m.example'}}\n", "https address", 2},
		"other":             {"more: 1\n", "must have policies:", 1},
		"scalar":            {"text\n", "must be a list", 1},
		"documents":         {"policies: []\n---\npolicies: []\n", "second YAML document", -1},
		"large":             {strings.Repeat("#", maxPolicyFile+1), "larger than", 0},
		"key": {
			"\n- {name: a, images: [a.b/c], authorities: [{key: gone.pub}]}",
			"gone.pub: no such file",
			2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "p.yaml", row.text)
			_, problems := Load(Input{ConfigFile: "c.yaml", Dir: dir, Files: []string{"*.yaml"}})
			if !slices.ContainsFunc(problems, func(p Problem) bool {
				return p.File == filepath.Join(dir, "p.yaml") && (row.line < 0 || p.Line == row.line) &&
					strings.Contains(p.Message, row.want)
			}) {
				t.Errorf("problems %v, want %q at line %d", problems, row.want, row.line)
			}
		})
	}

	odd := filepath.Join(t.TempDir(), "a[b]*")
	write(t, odd, "p.yaml", "[{name: a, images: [a.b/c], static: deny}]")
	set, problems := Load(Input{Dir: odd, Files: []string{"p.yaml"}})
	report(t, problems)
	if len(set.Policies()) != 1 {
		t.Error("a directory's name was taken for a pattern")
	}

	_, problems = Load(Input{
		ConfigFile:        "c.yaml",
		Dir:               odd,
		Files:             []string{"gone.yaml", "[", ""},
		FilesLine:         7,
		DefaultAction:     "maybe",
		DefaultActionLine: 9,
	})
	want := []string{
		`c.yaml:7: policyFiles: "gone.yaml" does not exist`,
		`c.yaml:7: policyFiles: "[" is not a valid glob`,
		"c.yaml:7: policyFiles has an empty entry",
		"c.yaml:9: defaultAction must be",
	}
	if len(problems) != len(want) {
		t.Fatalf("problems %v", problems)
	}

	for i, p := range problems {
		if !strings.HasPrefix(p.String(), want[i]) {
			t.Errorf("problem %q, want %q", p, want[i])
		}
	}
}

func TestProblemOrder(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "b.yaml", "- {name: one, images: [b.b/c], static: maybe}\n")
	write(t, dir, "a.yaml", "\n- {name: x, images: [x], static: deny}\n- {name: one, images: [a.b/d], mode: no}\n")
	_, problems := Load(Input{
		ConfigFile: "c",
		Dir:        dir,
		Inline:     node(t, "- {name: one, images: [a.b/c], static: deny, more: 1}"),
		Files:      []string{"*.yaml"},
	})
	var got []string
	for _, p := range problems {
		got = append(got, fmt.Sprintf("%s:%d", filepath.Base(p.File), p.Line))
	}

	want := []string{"c:1", "a.yaml:2", "a.yaml:3", "a.yaml:3", "a.yaml:3", "b.yaml:1", "b.yaml:1"}
	if !slices.Equal(got, want) {
		t.Errorf("problems at %q, want %q: %v", got, want, problems)
	}
}

func TestParseKey(t *testing.T) {
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}

	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}

	rsaKey := func(bits uint, e int) *rsa.PublicKey {
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		return &rsa.PublicKey{N: n.Add(n, big.NewInt(1)), E: e}
	}

	even := &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2047), E: 65537}
	p256 := string(publicPEM(t, ecKey(t, elliptic.P256())))
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}

	for name, row := range map[string]struct{ text, want string }{
		"p256":        {p256, ""},
		"p384":        {string(publicPEM(t, ecKey(t, elliptic.P384()))), ""},
		"p521":        {string(publicPEM(t, ecKey(t, elliptic.P521()))), ""},
		"ed25519":     {string(publicPEM(t, ed)), ""},
		"rsa":         {string(publicPEM(t, &private.PublicKey)), ""},
		"pkcs1":       {block("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&private.PublicKey)), ""},
		"rsa 8192":    {string(publicPEM(t, rsaKey(8192, 3))), ""},
		"rsa 8193":    {string(publicPEM(t, rsaKey(8193, 3))), "8193 bits"},
		"rsa 2047":    {string(publicPEM(t, rsaKey(2047, 3))), "2047 bits"},
		"rsa e=1":     {string(publicPEM(t, rsaKey(2048, 1))), "exponent"},
		"rsa e even":  {string(publicPEM(t, rsaKey(2048, 4))), "exponent"},
		"rsa even":    {string(publicPEM(t, even)), "even modulus"},
		"p224":        {string(publicPEM(t, ecKey(t, elliptic.P224()))), "unsupported curve"},
		"spaces":      {"\n" + p256 + "\n\n", ""},
		"two":         {p256 + p256, "after its first PEM block"},
		"trailing":    {p256 + "more", "after its first PEM block"},
		"leading":     {"more\n" + p256, "must start with"},
		"broken":      {"-----BEGIN PUBLIC KEY-----\nAA", "not valid PEM"},
		"no der":      {block("PUBLIC KEY", []byte("x")), "not a valid public key"},
		"private":     {block("ENCRYPTED SIGSTORE PRIVATE KEY", []byte("x")), "private key"},
		"certificate": {block("CERTIFICATE", []byte("x")), "certificate"},
		"other":       {block("X", []byte("x")), `PEM "X"`},
		"empty":       {"", "must start with"},
	} {
		t.Run(name, func(t *testing.T) {
			key, err := ParseKey([]byte(row.text))
			switch {
			case row.want == "" && (err != nil || len(key.ID) != 64 || key.Public == nil):
				t.Errorf("key %+v, error %v", key, err)
			case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)):
				t.Errorf("error %v, want %q", err, row.want)
			}
		})
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("- {name: one, images: [a.b/c], static: deny}")
	f.Add("policies:\n- name: a\n  digests: ['" + testDigest('1') + "']\n  static: allow\n  expires: 2027-01-01\n")
	f.Add(
		"- {name: a, images: ['**'], authorities: [{key: \"-----BEGIN PUBLIC KEY-----\\nAA==\\n-----END PUBLIC " +
			"KEY-----\"}], annotations: {a.b: c}}",
	)
	f.Add("&a [*a, {<<: *a}]")
	f.Fuzz(func(t *testing.T, text string) {
		dir := t.TempDir()
		write(t, dir, "p.yaml", text)
		set, problems := Load(Input{Dir: dir, Files: []string{"p.yaml"}})
		if len(problems) > 0 {
			if len(set.Policies()) > 0 {
				t.Fatal("policies beside problems")
			}
			return
		}

		names := map[string]bool{}
		for _, p := range set.Policies() {
			if p.Name == "" || names[p.Name] || len(p.Images)+len(p.Digests) == 0 ||
				(p.Static == Verify) != (len(p.Authorities) > 0) ||
				p.Static == Verify && p.Threshold < 1 ||
				p.Static != Verify && p.Mode == Warn ||
				p.Hash != hashPolicy(p) {
				t.Fatalf("loaded %+v", p)
			}

			names[p.Name] = true
		}
	})
}

// load reads inline policies that must be right; a.pub and b.pub exist.
func load(t testing.TB, text, action string) *Set {
	t.Helper()
	set, problems := Load(Input{
		ConfigFile:    "config.yaml",
		Dir:           keyDir(t),
		Inline:        node(t, text),
		DefaultAction: action,
	})
	report(t, problems)
	return set
}

func report(t testing.TB, problems []Problem) {
	t.Helper()
	for _, p := range problems {
		t.Error(p)
	}
	if len(problems) > 0 {
		t.FailNow()
	}
}

func node(t testing.TB, text string) *yaml.Node {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	return doc.Content[0]
}

func keyDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	a := string(publicPEM(t, ecKey(t, elliptic.P256())))
	write(t, dir, "a.pub", a)
	write(t, dir, "a-copy.pub", "\n"+a)
	write(t, dir, "b.pub", string(publicPEM(t, ecKey(t, elliptic.P256()))))
	write(t, dir, "large.pub", a+strings.Repeat("\n", maxKeyFile))
	return dir
}

func write(t testing.TB, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func ecKey(t testing.TB, curve elliptic.Curve) crypto.PublicKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &key.PublicKey
}

func publicPEM(t testing.TB, public crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func indent(text, by string) string {
	return by + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n"+by)
}

func testDigest(digit rune) string { return "sha256:" + strings.Repeat(string(digit), 64) }
