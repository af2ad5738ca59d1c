package verify_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/test/hostile"
	"github.com/pullgate/pullgate/verify"
)

const policyHead = `[{name: p, images: ["reg.example/**"], `

// subset names the letters of abcd that n has bits for.
func subset(n int) []string {
	var list []string
	for i, name := range []string{"a", "b", "c", "d"} {
		if n>>i&1 == 1 {
			list = append(list, name)
		}
	}
	return list
}

// TestThreshold: k of n, every k, every subset of those who might sign.
func TestThreshold(t *testing.T) {
	t.Parallel()
	s := newSigners(t)
	images := map[int]digest.Digest{}
	for n := range 16 {
		images[n] = s.image()
		for _, key := range subset(n) {
			s.attach(images[n], s.sign(images[n], key))
		}
	}
	for k := 1; k <= 4; k++ {
		gate := s.gate(
			fmt.Sprintf(
				policyHead+`threshold: %d, authorities: [{key: a.pub}, {key: b.pub}, {key: c.pub}, {key: d.pub}]}]`,
				k,
			),
		)
		for n, image := range images {
			who := subset(n)
			v := s.verdict(gate, image)
			if got := v.Outcome == verify.Allowed; got != (len(who) >= k) {
				t.Errorf("%d of %v: %s: %s", k, who, v.Outcome, v.Message())
			}
			if missing := fmt.Sprintf(
				"%d of %d required authorities have signed",
				len(who),
				k,
			); k > 1 && len(who) > 0 && len(who) < k &&
				!strings.Contains(v.Message(), missing) {
				t.Errorf("%d of %v: %s", k, who, v.Message())
			}
			if v.Outcome == verify.Allowed && k == len(who) {
				for _, key := range who {
					if !strings.Contains(v.Signer, fmt.Sprintf("key %q (%s.pub)", key+".pub", key)) {
						t.Errorf("%d of %v: signer %s", k, who, v.Signer)
					}
				}
			}
		}
	}
}

// TestRequired: who is required counts, and must be among those that pass.
func TestRequired(t *testing.T) {
	t.Parallel()
	s := newSigners(t)
	images := map[int]digest.Digest{}
	for n := range 8 {
		images[n] = s.image()
		for _, key := range subset(n) {
			s.attach(images[n], s.sign(images[n], key))
		}
	}
	for k := 1; k <= 3; k++ {
		for required := range 8 {
			is := func(i int) bool { return required>>i&1 == 1 }
			gate := s.gate(
				fmt.Sprintf(
					policyHead+`threshold: %d, authorities: [{key: a.pub, required: %t}, {key: b.pub, required: `+
						`%t}, {key: c.pub, required: %t}]}]`,
					k,
					is(0),
					is(1),
					is(2),
				),
			)
			for n, image := range images {
				v := s.verdict(gate, image)
				if want := len(subset(n)) >= k && n&required == required; (v.Outcome == verify.Allowed) != want {
					t.Errorf(
						"%d of 3, %v required, %v signed: %s: %s",
						k,
						subset(required),
						subset(n),
						v.Outcome,
						v.Message(),
					)
				}
				if n > 0 && v.Outcome == verify.Denied && n&required != required &&
					!strings.Contains(v.Message(), "(required)") {
					t.Errorf("%d of 3, %v required, %v signed: %s", k, subset(required), subset(n), v.Message())
				}
			}
		}
	}
}

// TestOneSignerCountsOnce: a quorum is of signers, not of signatures and not of
// the rules that one signer meets.
func TestOneSignerCountsOnce(t *testing.T) {
	t.Parallel()
	s := newSigners(t)
	const pki = `{name: %s, certificate: {rootsFile: corp.pem, %s}}`
	anna, anybody := fmt.Sprintf(
		pki,
		"anna",
		`subject: anna@acme.example`,
	), fmt.Sprintf(
		pki,
		"anybody",
		`subjectRegExp: '.*@acme\.example'`,
	)
	for name, test := range map[string]struct {
		authorities string
		layers      func(digest.Digest) []hostile.Layer
		want        string // empty: allowed
	}{
		"two signatures by one key": {`{key: a.pub}, {key: b.pub}`, func(d digest.Digest) []hostile.Layer {
			return []hostile.Layer{s.sign(d, "a"), s.sign(d, "a", "x", "y"), s.sign(d, "a", "x", "z")}
		}, "1 of 2 required authorities have signed"},
		"two keys of one authority": {
			`{name: release, keys: [a.pub, b.pub]}, {key: c.pub}`,
			func(d digest.Digest) []hostile.Layer {
				return []hostile.Layer{s.sign(d, "a"), s.sign(d, "b")}
			},
			"1 of 2 required authorities have signed",
		},
		"one key, in a file and in a service": {
			`{key: a.pub}, {key: "hashivault://a"}`,
			func(d digest.Digest) []hostile.Layer {
				return []hostile.Layer{s.sign(d, "a"), s.sign(d, "a", "x", "y")}
			},
			"its signer was already counted for another authority",
		},
		"one name that two rules mean": {anna + "," + anybody, func(d digest.Digest) []hostile.Layer {
			return []hostile.Layer{
				s.certified(d, s.corp, named("anna@acme.example")),
				s.certified(d, s.corp, named("anna@acme.example")),
			}
		}, "its signer was already counted for another authority"},
		"one certificate with two names": {anna + "," + anybody, func(d digest.Digest) []hostile.Layer {
			return []hostile.Layer{s.certified(d, s.corp, named("anna@acme.example", "ben@acme.example"))}
		}, "its signer was already counted for another authority"},
		"two people": {anna + "," + anybody, func(d digest.Digest) []hostile.Layer {
			return []hostile.Layer{
				s.certified(d, s.corp, named("anna@acme.example")),
				s.certified(d, s.corp, named("ben@acme.example")),
			}
		}, ""},
		"two people, the rule for anybody first": {anybody + "," + anna, func(d digest.Digest) []hostile.Layer {
			return []hostile.Layer{
				s.certified(d, s.corp, named("anna@acme.example")),
				s.certified(d, s.corp, named("ben@acme.example")),
			}
		}, ""},
		"two whom both rules mean": {
			anybody + "," + fmt.Sprintf(pki, "all", `subjectRegExp: '.*'`),
			func(d digest.Digest) []hostile.Layer {
				return []hostile.Layer{
					s.certified(d, s.corp, named("anna@acme.example")),
					s.certified(d, s.corp, named("ben@acme.example")),
				}
			},
			"",
		},
		"a good one among many bad ones": {`{key: a.pub}, {key: b.pub}`, func(d digest.Digest) []hostile.Layer {
			list := []hostile.Layer{
				s.sign(digest.FromString("x"), "a"),
				s.sign(d, "c"),
				{MediaType: hostile.SimpleSigningType, Body: []byte("{")},
				{MediaType: "application/vnd.dev.sigstore.bundle.v0.3+json", Body: []byte("null")},
			}
			return append(append(list, s.sign(d, "a")), append(list, s.sign(d, "b"))...)
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			gate := s.gate(policyHead + `threshold: 2, authorities: [` + test.authorities + `]}]`)
			for _, together := range []bool{true, false} {
				image := s.image()
				if layers := test.layers(image); together {
					s.attach(image, layers...)
				} else {
					for _, l := range layers {
						s.attach(image, l)
					}
				}
				v := s.verdict(gate, image)
				switch {
				case test.want == "" && v.Outcome != verify.Allowed:
					t.Errorf("%s: %s", v.Outcome, v.Message())
				case test.want != "" && (v.Outcome != verify.Denied || !strings.Contains(v.Message(), test.want)):
					t.Errorf("%s: %s (%s)", v.Outcome, v.Message(), v.Signer)
				}
			}
		})
	}
}

// TestSignerNames: the verdict says who stands for whom.
func TestSignerNames(t *testing.T) {
	t.Parallel()
	s := newSigners(t)
	gate := s.gate(
		policyHead + `threshold: 2, authorities: [{name: anybody, certificate: {rootsFile: corp.pem, ` +
			`subjectRegExp: '.*'}}, {name: anna, certificate: {rootsFile: corp.pem, subject: anna@acme.example}}]}]`,
	)
	image := s.image()
	s.attach(
		image,
		s.certified(image, s.corp, named("anna@acme.example")),
		s.certified(image, s.corp, named("ben@acme.example")),
	)
	v := s.verdict(gate, image)
	if v.Outcome != verify.Allowed ||
		v.Signer != `certificate "anybody" (ben@acme.example), certificate "anna" (anna@acme.example)` {
		t.Errorf("%s: %s, %s", v.Outcome, v.Signer, v.Message())
	}
	if len(v.Findings) != 2 || v.Findings[0] != (verify.Finding{
		Authority: "anybody",
		Passed:    true,
		Detail:    "ben@acme.example",
	}) {
		t.Errorf("findings %+v", v.Findings)
	}
}

const slsa1 = "https://slsa.dev/provenance/v1"

// TestAttestationsBeside: what must be attested is asked besides the
// signatures (CVE-2022-35929, CVE-2022-35930: of that type and no other).
func TestAttestationsBeside(t *testing.T) {
	t.Parallel()
	s := newSigners(t)
	const two = `authorities: [{name: a, key: a.pub}, {name: b, key: b.pub}], attestations: `
	const slsa, vuln, spdx = slsa1, "https://cosign.sigstore.dev/attestation/vuln/v1", "https://spdx.dev/Document"
	type parts = func(digest.Digest) []hostile.Layer
	signedAnd := func(key, predicateType, predicate string) parts {
		return func(d digest.Digest) []hostile.Layer {
			return []hostile.Layer{s.sign(d, "a"), s.attestation(d, key, predicateType, predicate)}
		}
	}
	for name, test := range map[string]struct {
		policy string
		parts  parts
		want   string
	}{
		"there":        {two + `[{type: slsaprovenance1}]`, signedAnd("a", slsa, `{}`), ""},
		"by the other": {two + `[{type: slsaprovenance1}]`, signedAnd("b", slsa, `{}`), ""},
		"by a stranger": {
			two + `[{type: slsaprovenance1}]`,
			signedAnd("c", slsa, `{}`),
			"no attestation of this type by a or b",
		},
		"by one who may not": {
			two + `[{type: slsaprovenance1, authorities: [b]}]`,
			signedAnd("a", slsa, `{}`),
			"no attestation of this type by b",
		},
		"by one who may only sign with it": {
			`authorities: [{name: a, key: a.pub, accept: [signature, slsaprovenance1]}, {name: b, key: b.pub}], ` +
				`attestations: [{type: slsaprovenance1, authorities: [b]}]`,
			signedAnd("a", slsa, `{}`), "no attestation of this type by b",
		},
		"another type": {two + `[{type: spdxjson}]`, signedAnd("a", vuln, `{}`), "attestation spdxjson"},
		"one of two": {
			two + `[{type: slsaprovenance1}, {type: vuln}]`,
			signedAnd("a", slsa, `{}`),
			"attestation vuln",
		},
		"only the attestation": {
			two + `[{type: slsaprovenance1}]`,
			func(d digest.Digest) []hostile.Layer { return []hostile.Layer{s.attestation(d, "a", slsa, `{}`)} },
			"not a signature",
		},
		"only the signature": {
			two + `[{type: slsaprovenance1}]`,
			func(d digest.Digest) []hostile.Layer { return []hostile.Layer{s.sign(d, "a")} },
			"no attestation of this type",
		},
		"about another image": {two + `[{type: slsaprovenance1}]`, func(d digest.Digest) []hostile.Layer {
			return []hostile.Layer{s.sign(d, "a"), s.attestation(digest.FromString("x"), "a", slsa, `{}`)}
		}, "no attestation of this type"},
		"true": {
			two + `[{type: slsaprovenance1, cel: 'predicate.level >= 2'}]`,
			signedAnd("a", slsa, `{"level":3}`),
			"",
		},
		"false": {
			two + `[{type: slsaprovenance1, cel: 'predicate.level >= 2'}]`,
			signedAnd("a", slsa, `{"level":1}`),
			"is false",
		},
		"a field missing": {
			two + `[{type: slsaprovenance1, cel: 'predicate.level >= 2'}]`,
			signedAnd("a", slsa, `{}`),
			"cannot be evaluated",
		},
		"a field missing, negated": {
			two + `[{type: slsaprovenance1, cel: '!(predicate.level < 2)'}]`,
			signedAnd("a", slsa, `{}`),
			"cannot be evaluated",
		},
		"a field of another kind": {
			two + `[{type: slsaprovenance1, cel: 'predicate.level >= 2'}]`,
			signedAnd("a", slsa, `{"level":"3"}`),
			"cannot be evaluated",
		},
		"no predicate": {
			two + `[{type: slsaprovenance1, cel: 'predicate.level >= 2'}]`,
			signedAnd("a", slsa, `null`),
			"cannot be evaluated",
		},
		"neither true nor false": {
			two + `[{type: slsaprovenance1, cel: 'predicate.level'}]`,
			signedAnd("a", slsa, `{"level":1}`),
			"neither true nor false",
		},
		"the text true": {
			two + `[{type: slsaprovenance1, cel: 'predicate.level'}]`,
			signedAnd("a", slsa, `{"level":"true"}`),
			"neither true nor false",
		},
		"false first, true later": {
			two + `[{type: slsaprovenance1, cel: 'predicate.level >= 2'}]`,
			func(d digest.Digest) []hostile.Layer {
				return []hostile.Layer{
					s.sign(d, "a"),
					s.attestation(d, "a", slsa, `{"level":1}`),
					s.attestation(d, "b", slsa, `{"level":2}`),
				}
			},
			"",
		},
		"image and type": {
			two + `[{type: slsaprovenance1, cel: 'image.name == "reg.example/acme/app" && image.digest == ` +
				`"sha256:" + subject[0].digest.sha256 && predicateType == "` + slsa + `"'}]`,
			signedAnd("a", slsa, `{}`),
			"",
		},
		"a cost without end": {
			two + `[{type: slsaprovenance1, cel: 'predicate.l.all(a, predicate.l.all(b, predicate.l.all(c, ` +
				`predicate.l.all(d, a + b + c + d > 0))))'}]`,
			signedAnd("a", slsa, `{"l":[`+strings.Repeat("1,", 200)+`1]}`),
			"cannot be evaluated",
		},
		"accepted as a signature": {
			`authorities: [{key: a.pub, accept: [signature, slsaprovenance1]}]`,
			func(d digest.Digest) []hostile.Layer { return []hostile.Layer{s.attestation(d, "a", slsa, `{}`)} },
			"",
		},
		"accepted, and of another type": {
			`authorities: [{key: a.pub, accept: [slsaprovenance1]}]`,
			func(d digest.Digest) []hostile.Layer { return []hostile.Layer{s.attestation(d, "a", spdx, `{}`)} },
			"is an attestation",
		},
		"nothing at all, where attestations count": {
			`authorities: [{key: a.pub, accept: [slsaprovenance1]}]`,
			func(digest.Digest) []hostile.Layer { return nil },
			"attest with push-to-registry: true",
		},
		"not accepted": {
			`authorities: [{key: a.pub}]`,
			func(d digest.Digest) []hostile.Layer { return []hostile.Layer{s.attestation(d, "a", slsa, `{}`)} },
			"no signature found",
		},
		"a signature where only those": {
			`authorities: [{key: a.pub, accept: [slsaprovenance1]}]`,
			func(d digest.Digest) []hostile.Layer { return []hostile.Layer{s.sign(d, "a")} },
			"accepts only attestations",
		},
		"one statement as both": {
			`authorities: [{name: a, key: a.pub, accept: [slsaprovenance1]}], attestations: [{type: ` +
				`slsaprovenance1, cel: predicate.ok}]`,
			func(d digest.Digest) []hostile.Layer {
				return []hostile.Layer{s.attestation(d, "a", slsa, `{"ok":true}`)}
			},
			"",
		},
		"one statement as both, and false": {
			`authorities: [{name: a, key: a.pub, accept: [slsaprovenance1]}], attestations: [{type: ` +
				`slsaprovenance1, cel: predicate.ok}]`,
			func(d digest.Digest) []hostile.Layer {
				return []hostile.Layer{s.attestation(d, "a", slsa, `{"ok":false}`)}
			},
			"is false",
		},
		"attested and not signed by enough": {
			`threshold: 2, ` + two + `[{type: slsaprovenance1}]`,
			signedAnd("a", slsa, `{}`),
			"1 of 2 required authorities",
		},
	} {
		t.Run(name, func(t *testing.T) {
			gate := s.gate(policyHead + test.policy + `}]`)
			image := s.image()
			for _, l := range test.parts(image) {
				s.attach(image, l)
			}
			v := s.verdict(gate, image)
			if (v.Outcome == verify.Allowed) != (test.want == "") || !strings.Contains(v.Message(), test.want) {
				t.Errorf("%s: %s (%s), want %q", v.Outcome, v.Message(), v.Signer, test.want)
			}
		})
	}
}

// TestSignedAnnotations: each signature that counts must carry
// them.
func TestSignedAnnotations(t *testing.T) {
	t.Parallel()
	s := newSigners(t)
	gate := s.gate(policyHead + `threshold: 2, annotations: {env: prod}, authorities: [{key: a.pub}, {key: b.pub}]}]`)
	both, one := s.image(), s.image()
	s.attach(both, s.sign(both, "a", "env", "prod"), s.sign(both, "b", "env", "prod", "x", "y"), s.sign(both, "b"))
	s.attach(one, s.sign(one, "a", "env", "prod"), s.sign(one, "b", "env", "dev"), s.sign(one, "b"))
	if v := s.verdict(gate, both); v.Outcome != verify.Allowed {
		t.Error(v.Message())
	}
	if v := s.verdict(
		gate,
		one,
	); v.Outcome != verify.Denied || !strings.Contains(v.Message(), `annotation env is "dev", not "prod"`) ||
		!strings.Contains(v.Message(), "lacks the annotation env=prod") {
		t.Error(v.Message())
	}
}
