package imports

import (
	"regexp"
	"strings"
)

// The expressions of validations that import understands. In both, all images
// of the resource have to be signed by any of the attestors in brackets.
var (
	signedExpression = regexp.MustCompile(
		`^images\.\w+\.map\((\w+), ?verifyImageSignatures\((\w+), ?\[([^\]]+)\]\)\)\.all\((\w+), ?(\w+) > 0\)$`,
	)
	attestedExpression = regexp.MustCompile(
		`^images\.\w+\.map\((\w+), ?verifyAttestationSignatures\((\w+), ?attestations\.(\w+) ?, ` +
			`?\[([^\]]+)\]\)\)\.all\((\w+), ?(\w+) > 0\)$`,
	)
)

const understood = "only images.containers.map(image, verifyImageSignatures(image, [attestors.NAME])).all(e, e > " +
	"0), and verifyAttestationSignatures alike, can be carried: " +
	"take it out, import, and write what it says about an attestation as cel: under attestations"

// readImageValidatingPolicy reads Kyverno's newer kind, of which all
// validations must hold.
func readImageValidatingPolicy(r *report, o kubernetes) []rule {
	a := rule{value: o.value, name: o.name, annotations: map[string]string{}}
	r.notes = &a.notes
	defer func() { r.notes = nil }()
	attestors := map[string]authority{}
	attestations := map[string]string{}
	var validations []value
	cluster := lost("is the cluster's")
	before := len(r.problems)
	o.read(func(spec value) {
		spec.object(fields{
			"matchConstraints": lost(everyPull),
			"matchConditions":  lost(everyPull),
			"failurePolicy":    lost("what cannot be told is answered with 503"),
			"auditAnnotations": cluster,
			"validationActions": func(v value) {
				actions := v.texts()
				a.warn = len(actions) > 0 // none: Kyverno denies
				for _, action := range actions {
					switch action {
					case "Deny":
						a.warn = false
					case "Audit", "Warn":
					default:
						v.refuse("%q is not known: Deny, Audit or Warn", action)
					}
				}
			},
			"variables": lost("variables are the cluster's"),
			"validationConfigurations": func(v value) {
				v.object(fields{
					"mutateDigest": lost("a pull by tag is resolved once, and what was verified is served"),
					"verifyDigest": lost("pulls by tag are verified as well"),
					"required":     lost("every pull is verified"),
				})
			},
			"matchImageReferences": func(v value) {
				for _, e := range v.list() {
					e.object(fields{
						"glob":       func(f value) { a.references(f) },
						"expression": refused("an expression over names cannot be carried: write glob"),
					})
				}
			},
			"credentials": lost("credentials are the upstream's: auth under upstreams"),
			"images":      lost(everyPull),
			"attestors": func(v value) {
				for _, e := range v.list() {
					name, who := a.ivpAttestor(e)
					attestors[name] = who
				}
			},
			"attestations": func(v value) {
				for _, e := range v.list() {
					name, kind := "", ""
					e.object(fields{
						"name":   func(f value) { name = f.text() },
						"intoto": func(f value) { f.object(fields{"type": func(u value) { kind = u.text() }}) },
						"referrer": refused(
							"attestations by Notary are not verified: attest with cosign, and write intoto",
						),
					})
					attestations[name] = kind
				}
			},
			"validations":          func(v value) { validations = v.list() },
			"webhookConfiguration": cluster,
			"evaluation":           cluster,
			"autogen":              cluster,
		})
	})
	for _, v := range validations {
		v.object(fields{
			"expression":        func(f value) { a.validation(f, attestors, attestations) },
			"message":           lost("refusals have pullgate's own text"),
			"messageExpression": lost("refusals have pullgate's own text"),
			"reason":            lost("refusals have pullgate's own text"),
		})
	}
	switch {
	case len(r.problems) > before:
	case len(a.places) == 0:
		o.refuse("has no matchImageReferences: add them")
	case len(a.needs) == 0:
		validations := o.value
		validations.path = "spec.validations"
		validations.refuse("say nothing about signatures: add one that does")
	}
	return []rule{a}
}

// validation turns an expression into what the rule needs.
func (a *rule) validation(v value, attestors map[string]authority, attestations map[string]string) {
	text := strings.Join(strings.Fields(v.text()), " ")
	text = strings.ReplaceAll(strings.ReplaceAll(text, "( ", "("), " )", ")")
	kind, names := "", ""
	if m := signedExpression.FindStringSubmatch(text); m != nil && m[1] == m[2] && m[4] == m[5] {
		names = m[3]
	} else if m := attestedExpression.FindStringSubmatch(text); m != nil && m[1] == m[2] && m[5] == m[6] {
		names = m[4]
		if kind = attestations[m[3]]; kind == "" {
			v.refuse("attestation %q is not defined", m[3])
			return
		}
	} else {
		v.refuse("%s", understood)
		return
	}
	if !strings.HasPrefix(text, "images.containers.") {
		v.lose("holds for every pull: pullgate does not see which container an image is for")
	}
	n := need{count: 1, kind: kind}
	for name := range strings.SplitSeq(names, ",") {
		name = strings.TrimSpace(name)
		who, ok := attestors[strings.TrimPrefix(name, "attestors.")]
		if !ok || !strings.HasPrefix(name, "attestors.") {
			v.refuse("attestor %q is not defined", name)
			return
		}
		n.who = append(n.who, who)
	}
	a.needs = append(a.needs, n)
}

// ivpAttestor reads one attestor.
func (a *rule) ivpAttestor(v value) (string, authority) {
	name := ""
	var who authority
	var e evidence
	cosign, keyless, log := false, false, false
	own := a.name
	v.object(fields{
		"name":   func(f value) { name = f.text() },
		"notary": refused("Notary's signatures are not verified: sign with cosign"),
		"cosign": func(f value) {
			cosign = true
			f.object(fields{
				"key": func(u value) {
					u.object(fields{
						"data": func(k value) {
							if key, ok := k.publicKey(); ok {
								who.keys = []string{key}
							}
						},
						"kms": func(k value) {
							if key, ok := k.keyService(); ok {
								who.keys = []string{key}
							}
						},
						"hashAlgorithm": sha256Only,
						"expression":    refused("an expression cannot be read: write the public key as data"),
					})
				},
				"keyless": func(u value) {
					keyless = true
					u.object(fields{
						"identities": func(ids value) {
							for _, one := range ids.list() {
								if id, ok := one.who(exactly, [2]string{"issuerRegExp", "subjectRegExp"}, nil); ok {
									who.identities = append(who.identities, id)
								}
							}
						},
						"roots": func(k value) {
							e.made(k, own)
							k.lose("the certificates have to be put into a trust root: see trustRoots")
						},
					})
				},
				"certificate": refused(
					"certificates are read from files: write them into one, take this attestor out, and add " +
						"certificate: {rootsFile: FILE, subject: …} by hand",
				),
				"source": func(u value) {
					u.object(fields{
						"repository":  func(k value) { a.keptIn(k) },
						"PullSecrets": lost("credentials are the upstream's: auth under upstreams"),
						"tagPrefix": refused(
							"signatures are looked for under cosign's own tags alone: sign without a prefix",
						),
					})
				},
				"ctlog": func(u value) {
					log = true
					intoRoot := func(k value) {
						e.made(k, own)
						k.lose("has to be put into a trust root: see trustRoots")
					}
					u.object(fields{
						"url": func(k value) {
							if !isAt(k.text(), publicRekor) && k.text() != "" {
								e.made(k, hostOf(k.text()))
							}
						},
						"rekorPubKey": intoRoot,
						"ctLogPubKey": intoRoot,
						"tsaCertChain": func(k value) {
							e.stamp = true
							intoRoot(k)
						},
						"insecureIgnoreTlog": func(k value) { e.noLog = k.flag() },
						"insecureIgnoreSCT":  func(k value) { e.noSCT = k.flag() },
					})
				},
				"tuf": func(u value) {
					u.object(fields{
						"mirror": func(k value) {},
						"root":   func(k value) { k.object(fields{"path": func(value) {}, "data": func(value) {}}) },
					})
					e.made(u, own)
					u.lose("the mirror has to be written under trustRoots as tuf: {mirror: …, root: FILE}")
				},
				"annotations": func(u value) { a.annotate(u) },
			})
		},
	})
	switch {
	case len(v.r.problems) > 0:
	case name == "" || !cosign:
		v.refuse("must have a name, and cosign")
	case (len(who.keys) > 0) == (len(who.identities) > 0):
		v.refuse("must have either a key or keyless identities")
	}
	if keyless {
		e.ofIdentities(v, &who)
	} else {
		if !log {
			v.lose("a key without ctlog asks for an entry of the public transparency log here")
		}
		e.ofKeys(v, &who)
	}
	who.name = name
	return name, who
}
