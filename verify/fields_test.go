package verify_test

import (
	"crypto/x509"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/test/hostile"
	"github.com/pullgate/pullgate/verify"
)

// fieldCase is a policy before and after one field of it changed. The first
// admits what parts makes, the second does not.
type fieldCase struct {
	before, after string
	parts         func(s *signers, d digest.Digest) []hostile.Layer
}

// signedBy is a signature by each of these keys.
func signedBy(keys ...string) func(*signers, digest.Digest) []hostile.Layer {
	return func(s *signers, d digest.Digest) []hostile.Layer {
		var list []hostile.Layer
		for _, key := range keys {
			list = append(list, s.sign(d, key, "env", "prod"))
		}
		return list
	}
}

func certifiedFor(names ...string) func(*signers, digest.Digest) []hostile.Layer {
	return func(s *signers, d digest.Digest) []hostile.Layer {
		return []hostile.Layer{s.certified(d, s.corp, named(names...))}
	}
}

func attestedAs(predicateType string) func(*signers, digest.Digest) []hostile.Layer {
	return func(s *signers, d digest.Digest) []hostile.Layer {
		return []hostile.Layer{s.sign(d, "a"), s.attestation(d, "a", predicateType, `{"level":2}`)}
	}
}

const actions = "https://token.actions.githubusercontent.com"

// byWorkflow is a keyless signature of a workflow, as its certificate says, with
// the local root's timestamp.
func byWorkflow(s *signers, d digest.Digest) []hostile.Layer {
	return []hostile.Layer{s.stamped(s.certified(d, s.local, workflow(nil)))}
}

// workflow is a certificate of GitHub Actions for a push of a tag to acme/app,
// with some extensions changed.
func workflow(change map[int]string) func(*x509.Certificate) {
	extensions := map[int]string{
		8:  actions,
		9:  "https://github.com/acme/app/.github/workflows/release.yml@refs/tags/v1",
		11: "github-hosted",
		12: "https://github.com/acme/app",
		14: "refs/tags/v1",
		16: "https://github.com/acme",
		20: "push",
	}
	maps.Copy(extensions, change)
	return identity("https://github.com/acme/app/.github/workflows/release.yml@refs/tags/v1", extensions)
}

func github(fields string) string {
	return policyHead + `authorities: [{name: ci, github: {` + fields + `, trustRoots: [local]}}]}]`
}

func claimed(fields string) string {
	return policyHead + `authorities: [{name: ci, keyless: {trustRoots: [local], identities: [{` + fields + `}]}}]}]`
}

func corp(fields string) string {
	return policyHead + `authorities: [{name: corp, certificate: {` + fields + `}}]}]`
}

func plain(fields string) string {
	return policyHead + fields + `}]`
}

// fieldCases has one for each field that decides something, by its name.
var fieldCases = map[string]fieldCase{
	"Policy.Images": {
		plain(`authorities: [{key: a.pub}]`),
		`[{name: p, images: ["reg.example/other/**"], authorities: [{key: a.pub}]}]`,
		signedBy("a"),
	},
	"Policy.Digests": {
		plain(`authorities: [{key: a.pub}]`),
		plain(`authorities: [{key: a.pub}], digests: ["sha256:` + strings.Repeat("0", 64) + `"]`),
		signedBy("a"),
	},
	"Policy.Clients": { // the one who asks here has neither name nor address
		plain(`authorities: [{key: a.pub}]`),
		plain(`authorities: [{key: a.pub}], clients: ["user:*", "0.0.0.0/0"]`),
		signedBy("a"),
	},
	"Policy.Static": {plain(`static: allow`), plain(`static: deny`), nil},
	"Policy.Mode": {
		plain(`authorities: [{key: b.pub}], mode: warn`),
		plain(`authorities: [{key: b.pub}], mode: enforce`),
		signedBy("a"),
	},
	"Policy.Expires": {
		plain(`static: allow, expires: ` + time.Now().AddDate(1, 0, 0).Format(time.DateOnly)),
		plain(`static: allow, expires: 2020-01-01`),
		nil,
	},
	"Policy.Authorities": {plain(`authorities: [{key: a.pub}]`), plain(`authorities: [{key: b.pub}]`), signedBy("a")},
	"Policy.Threshold": {
		plain(`authorities: [{key: a.pub}, {key: b.pub}]`),
		plain(`authorities: [{key: a.pub}, {key: b.pub}], threshold: 2`),
		signedBy("a"),
	},
	"Policy.Annotations": {
		plain(`authorities: [{key: a.pub}], annotations: {env: prod}`),
		plain(`authorities: [{key: a.pub}], annotations: {env: dev}`),
		signedBy("a"),
	},
	"Policy.Attestations": {
		plain(`authorities: [{key: a.pub}], attestations: [{type: slsaprovenance1}]`),
		plain(`authorities: [{key: a.pub}], attestations: [{type: slsaprovenance1}, {type: vuln}]`), attestedAs(slsa1),
	},
	"Policy.SignatureRepository": {
		plain(`authorities: [{key: a.pub}]`),
		plain(`authorities: [{key: a.pub}], signatureRepository: reg.example/elsewhere`),
		signedBy("a"),
	},

	"Authority.Keys": {
		plain(`authorities: [{name: x, key: a.pub}]`),
		plain(`authorities: [{name: x, key: b.pub}]`),
		signedBy("a"),
	},
	"Authority.KMS": {
		plain(`authorities: [{name: x, keys: [b.pub, "hashivault://a"]}]`),
		plain(`authorities: [{name: x, keys: [b.pub]}]`),
		signedBy("a"),
	},
	"Authority.Identities": {
		claimed(`issuer: "` + actions + `", subjectRegExp: ".*"`),
		claimed(`issuer: "https://other.example", subjectRegExp: ".*"`),
		byWorkflow,
	},
	"Authority.PKI": {
		corp(`rootsFile: corp.pem, subject: anna@acme.example`),
		corp(`rootsFile: other.pem, subject: anna@acme.example`),
		certifiedFor("anna@acme.example"),
	},
	"Authority.TrustRoots": {
		github(`owner: acme`),
		strings.Replace(github(`owner: acme`), "[local]", "[strange]", 1),
		byWorkflow,
	},
	"Authority.Accept": {
		plain(`authorities: [{key: a.pub, accept: [slsaprovenance1]}]`),
		plain(`authorities: [{key: a.pub, accept: [spdxjson]}]`),
		attestedAs(slsa1),
	},
	"Authority.Required": {
		plain(`authorities: [{key: a.pub}, {key: b.pub}]`),
		plain(`authorities: [{key: a.pub}, {key: b.pub, required: true}]`),
		signedBy("a"),
	},
	"Authority.TransparencyLog": {
		plain(`authorities: [{key: a.pub}]`),
		plain(`authorities: [{key: a.pub, transparencyLog: require, trustRoot: logged}]`),
		signedBy("a"),
	},
	"Authority.Timestamp": {
		plain(`authorities: [{key: a.pub}]`),
		plain(`authorities: [{key: a.pub, timestamp: require, trustRoot: local}]`),
		signedBy("a"),
	},

	"Identity.Issuer": {
		claimed(`issuerRegExp: "https://token\\..*", subjectRegExp: ".*"`),
		claimed(`issuerRegExp: "https://token\\.[a-z]*", subjectRegExp: ".*"`),
		byWorkflow,
	},
	"Identity.Subject": {
		claimed(`issuer: "` + actions + `", subjectRegExp: "https://github\\.com/acme/.*"`),
		claimed(`issuer: "` + actions + `", subjectRegExp: "https://github\\.com/acm/.*"`),
		byWorkflow,
	},
	"Identity.SubjectEmail": {
		claimed(`issuer: "` + actions + `", subjectRegExp: ".*"`),
		claimed(`issuer: "` + actions + `", subjectEmail: anna@acme.example`),
		byWorkflow,
	},
	"Identity.Claims": {
		claimed(`issuer: "` + actions + `", claims: {runnerEnvironment: github-hosted}`),
		claimed(`issuer: "` + actions + `", claims: {runnerEnvironment: self-hosted}`), byWorkflow,
	},
	"Identity.GitHub": {claimed(`issuer: "` + actions + `", subjectRegExp: ".*"`), github(`owner: evil`), byWorkflow},

	"GitHub.Server": {
		github(`owner: acme`),
		github(`owner: acme, issuer: "https://token.actions.acme.ghe.com"`),
		byWorkflow,
	},
	"GitHub.Owner":      {github(`owner: acme`), github(`owner: acm`), byWorkflow},
	"GitHub.Repository": {github(`repository: acme/app`), github(`repository: acme/ap`), byWorkflow},
	"GitHub.Workflow": {
		github(`owner: acme, workflow: .github/workflows/release.yml`),
		github(`owner: acme, workflow: .github/workflows/test.yml`),
		byWorkflow,
	},
	"GitHub.Ref": {
		github(`owner: acme, ref: "refs/tags/v*"`),
		github(`owner: acme, ref: "refs/heads/v*"`),
		byWorkflow,
	},
	"GitHub.Trigger": {
		github(`owner: acme, trigger: push`),
		github(`owner: acme, trigger: pull_request`),
		byWorkflow,
	},

	"Certificate.Roots": {
		corp(`rootsFile: corp.pem, subject: anna@acme.example`),
		corp(`rootsFile: other.pem, subject: anna@acme.example`),
		certifiedFor("anna@acme.example"),
	},
	"Certificate.Intermediates": {
		corp(`rootsFile: corp.pem, intermediatesFile: below.pem, subject: anna@acme.example`),
		corp(`rootsFile: corp.pem, subject: anna@acme.example`),
		certifiedBelow,
	},
	"Certificate.Subject": {
		corp(`rootsFile: corp.pem, subjectRegExp: ".*@acme\\.example"`),
		corp(`rootsFile: corp.pem, subjectRegExp: ".*@acme\\.exampl"`),
		certifiedFor("anna@acme.example"),
	},
	"Certificate.SubjectEmail": {
		corp(`rootsFile: corp.pem, subject: anna@acme.example`),
		corp(`rootsFile: corp.pem, subjectEmail: ben@acme.example`),
		certifiedFor("anna@acme.example"),
	},
	"Certificate.RequireTimestamp": {
		corp(`rootsFile: corp.pem, subject: anna@acme.example, time: current`),
		policyHead + `authorities: [{name: corp, certificate: {rootsFile: corp.pem, subject: anna@acme.example, ` +
			`time: timestamp}, trustRoot: local}]}]`,
		certifiedFor("anna@acme.example"),
	},

	"Attestation.Type": {
		plain(`authorities: [{name: a, key: a.pub}], attestations: [{type: slsaprovenance1}]`),
		plain(`authorities: [{name: a, key: a.pub}], attestations: [{type: spdxjson}]`),
		attestedAs(slsa1),
	},
	"Attestation.Authorities": {
		plain(
			`authorities: [{name: a, key: a.pub}, {name: b, key: b.pub}], attestations: [{type: vuln, ` +
				`authorities: [a]}]`,
		),
		plain(
			`authorities: [{name: a, key: a.pub}, {name: b, key: b.pub}], attestations: [{type: vuln, ` +
				`authorities: [b]}]`,
		),
		attestedAs("https://cosign.sigstore.dev/attestation/vuln/v1"),
	},
	"Attestation.CEL": {
		plain(`authorities: [{key: a.pub}], attestations: [{type: slsaprovenance1, cel: predicate.level == 2}]`),
		plain(`authorities: [{key: a.pub}], attestations: [{type: slsaprovenance1, cel: predicate.level == 3}]`),
		attestedAs(slsa1),
	},
}

// certifiedBelow is a signature under an intermediate that the policy's
// intermediatesFile holds and the signature does not bring.
func certifiedBelow(s *signers, d digest.Digest) []hostile.Layer {
	return []hostile.Layer{s.certified(d, s.below, named("anna@acme.example"))}
}

// saysOnly are the fields that decide nothing about an image by themselves.
var saysOnly = map[string]string{
	"Policy.Name":        "for people; see TestNamesAreSaid",
	"Policy.Where":       "for people",
	"Policy.Hash":        "of the other fields; compared below",
	"Policy.OwnChildren": "about parts of an image; see TestOwnChildren",
	"Authority.Name":     "for people, and what Attestation.Authorities means",
	"Attestation.Name":   "for people; Type is what counts",
	"GitHub.workflowRef": "compiled from Workflow",
	"GitHub.ref":         "compiled from Ref",
}

// TestEveryFieldDecides (CVE-2025-29778: a field that was read and never asked):
// each field of a policy, changed, changes a verdict of the whole gate and the
// policy's hash, by which verdicts are remembered. A field without a case here
// fails the test.
func TestEveryFieldDecides(t *testing.T) {
	t.Parallel()
	s := newSigners(t)
	unused := map[string]bool{}
	for name := range fieldCases {
		unused[name] = true
	}
	for _, kind := range []reflect.Type{
		reflect.TypeFor[policy.Policy](),
		reflect.TypeFor[policy.Authority](),
		reflect.TypeFor[policy.Identity](),
		reflect.TypeFor[policy.GitHub](),
		reflect.TypeFor[policy.Certificate](),
		reflect.TypeFor[policy.Attestation](),
	} {
		for i := range kind.NumField() {
			name := kind.Name() + "." + kind.Field(i).Name
			test, ok := fieldCases[name]
			delete(unused, name)
			if why, exempt := saysOnly[name]; exempt || !ok {
				if !exempt || ok {
					t.Errorf("%s decides nothing that is tested here (%s)", name, why)
				}
				continue
			}
			t.Run(name, func(t *testing.T) {
				before, after := s.load(test.before).Policies()[0], s.load(test.after).Policies()[0]
				old, changed := fieldsOf(before, kind, i), fieldsOf(after, kind, i)
				if reflect.DeepEqual(old, changed) {
					t.Errorf("the policies do not differ in %s: %v", name, old)
				}
				if before.Hash == after.Hash {
					t.Error("the hash is the same")
				}
				image := s.image()
				if test.parts != nil {
					s.attach(image, test.parts(s, image)...)
				}
				if v := s.verdict(s.gate(test.before), image); !v.Admitted() {
					t.Errorf("before: %s: %s", v.Outcome, v.Message())
				}
				if v := s.verdict(s.gate(test.after), image); v.Outcome != verify.Denied {
					t.Errorf("after: %s by %s", v.Outcome, v.Signer)
				}
			})
		}
	}
	for name := range unused {
		t.Errorf("%s is no field of a policy", name)
	}
}

// fieldsOf lists field i of every struct of this type in p.
func fieldsOf(p *policy.Policy, kind reflect.Type, i int) []any {
	var list []any
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer:
			if !v.IsNil() && v.Type().Elem().PkgPath() == kind.PkgPath() {
				walk(v.Elem())
			}
		case reflect.Slice:
			for n := range v.Len() {
				walk(v.Index(n))
			}
		case reflect.Struct:
			if v.Type() == kind {
				list = append(list, v.Field(i).Interface())
			}
			if v.Type().PkgPath() != kind.PkgPath() {
				return
			}
			for n := range v.NumField() {
				if v.Type().Field(n).IsExported() {
					walk(v.Field(n))
				}
			}
		}
	}
	walk(reflect.ValueOf(p))
	return list
}

// TestNamesAreSaid: a refusal names the policy and the authority.
func TestNamesAreSaid(t *testing.T) {
	t.Parallel()
	s := newSigners(t)
	image := s.image()
	s.attach(image, s.sign(image, "b"))
	v := s.verdict(
		s.gate(`[{name: "a policy", images: ["reg.example/**"], authorities: [{name: "an authority", key: a.pub}]}]`),
		image,
	)
	if !strings.Contains(
		v.Message(),
		`refused by policy "a policy": an authority: 1 signature found, none counts: it was made by another key`,
	) {
		t.Error(v.Message())
	}
}

// TestOwnChildren: the index admits its platforms' images, or they have to be
// signed themselves.
func TestOwnChildren(t *testing.T) {
	t.Parallel()
	for own, want := range map[string]verify.Outcome{"index": verify.Allowed, "own": verify.Denied} {
		s := newSigners(t)
		gate := s.gate(plain(`authorities: [{key: a.pub}], children: ` + own))
		child := s.image()
		index := s.reg.PushIndex(signersRepo, "", child)
		s.attach(index, s.sign(index, "a"))
		if v := s.verdict(gate, index); v.Outcome != verify.Allowed {
			t.Errorf("%s: index: %s", own, v.Message())
		}
		if v := s.verdict(gate, child); v.Outcome != want {
			t.Errorf("%s: child: %s", own, v.Outcome)
		}
	}
}

// TestGitHubTraps: who calls our reusable workflow gets its subject, not its
// place in our policy.
func TestGitHubTraps(t *testing.T) {
	t.Parallel()
	s := newSigners(t)
	const release = ".github/workflows/release.yml"
	for name, test := range map[string]struct {
		fields string
		change map[int]string
		want   bool
	}{
		"ours": {`owner: acme, workflow: ` + release + `, ref: "refs/tags/v*", trigger: push`, nil, true},
		"a foreign repository calls our workflow": {
			`owner: acme, workflow: acme/app/` + release,
			map[int]string{12: "https://github.com/evil/app", 16: "https://github.com/evil"},
			false,
		},
		"ours calls a shared workflow": {
			`owner: acme, workflow: shared/flows/` + release,
			map[int]string{9: "https://github.com/shared/flows/" + release + "@refs/heads/main"},
			true,
		},
		"ours calls another shared workflow": {
			`owner: acme, workflow: shared/flows/` + release,
			map[int]string{9: "https://github.com/shared/evil/" + release + "@refs/heads/main"},
			false,
		},
		"a bare path is the source's own": {
			`owner: acme, workflow: ` + release,
			map[int]string{9: "https://github.com/evil/app/" + release + "@refs/tags/v1"},
			false,
		},
		"a workflow's ref": {`owner: acme, workflow: "` + release + `@refs/tags/v*"`, nil, true},
		"another ref of the workflow": {
			`owner: acme, workflow: "` + release + `@refs/tags/v*"`,
			map[int]string{9: "https://github.com/acme/app/" + release + "@refs/heads/v1"},
			false,
		},
		"a workflow at a commit": {
			`owner: acme, workflow: ` + release,
			map[int]string{9: "https://github.com/acme/app/" + release + "@" + strings.Repeat("a", 40)},
			true,
		},
		"a file with an @ in its name": {
			`owner: acme, workflow: ` + release,
			map[int]string{9: "https://github.com/acme/app/" + release + "@evil.yml@refs/tags/v1"},
			false,
		},
		"a workflow without a ref": {
			`owner: acme, workflow: ` + release,
			map[int]string{9: "https://github.com/acme/app/" + release},
			false,
		},
		"an owner that begins alike": {
			`owner: acme`,
			map[int]string{16: "https://github.com/acme-evil", 12: "https://github.com/acme-evil/app"},
			false,
		},
		"an owner that ends alike": {
			`owner: acme`,
			map[int]string{16: "https://github.com/evil-acme", 12: "https://github.com/evil-acme/app"},
			false,
		},
		"an owner with a line": {
			`owner: acme`,
			map[int]string{16: "https://github.com/acme\n"},
			false,
		},
		"a repository that begins alike": {
			`repository: acme/app`,
			map[int]string{12: "https://github.com/acme/app2"},
			false,
		},
		"no owner":             {`owner: acme`, map[int]string{16: ""}, false},
		"no source repository": {`owner: acme, workflow: ` + release, map[int]string{12: ""}, false},
		"another host": {
			`owner: acme`,
			map[int]string{16: "https://github.com.evil.example/acme"},
			false,
		},
		"another issuer": {`owner: acme`, map[int]string{8: actions + ".evil.example"}, false},
		"an enterprise's issuer": {
			`owner: acme, issuer: "` + actions + `/acme"`,
			map[int]string{8: actions + "/acme"},
			true,
		},
		"another enterprise's issuer": {
			`owner: acme, issuer: "` + actions + `/acme"`,
			map[int]string{8: actions + "/evil"},
			false,
		},
		"the public issuer for an enterprise's": {`owner: acme, issuer: "` + actions + `/acme"`, nil, false},
		"a tenant": {
			`owner: acme, issuer: "https://token.actions.corp.ghe.com"`,
			map[int]string{
				8:  "https://token.actions.corp.ghe.com",
				12: "https://corp.ghe.com/acme/app",
				16: "https://corp.ghe.com/acme",
			},
			true,
		},
		"a server": {
			`owner: acme, issuer: "https://git.corp.example/_services/token"`,
			map[int]string{
				8:  "https://git.corp.example/_services/token",
				12: "https://git.corp.example/acme/app",
				16: "https://git.corp.example/acme",
			},
			true,
		},
		"a server's issuer, github.com's owner": {
			`owner: acme, issuer: "https://git.corp.example/_services/token"`,
			map[int]string{8: "https://git.corp.example/_services/token"},
			false,
		},
		"a branch for a tag": {
			`owner: acme, ref: "refs/tags/v*"`,
			map[int]string{14: "refs/heads/v1"},
			false,
		},
		"a ref below": {
			`owner: acme, ref: "refs/heads/release-*"`,
			map[int]string{14: "refs/heads/release-1/evil"},
			false,
		},
		"no ref": {`owner: acme, ref: "refs/**"`, map[int]string{14: ""}, false},
		"another trigger": {
			`owner: acme, trigger: push`,
			map[int]string{20: "pull_request_target"},
			false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			image := s.image()
			s.attach(image, s.stamped(s.certified(image, s.local, workflow(test.change))))
			if v := s.verdict(s.gate(github(test.fields)), image); (v.Outcome == verify.Allowed) != test.want {
				t.Errorf("%s: %s", v.Outcome, v.Message())
			}
		})
	}
}
