package imports

import (
	"fmt"
	"strings"

	"github.com/pullgate/pullgate/policy"
)

// writeCEL is what to do about conditions in another language.
const writeCEL = "CUE and Rego cannot be carried: take it out, import, and write the condition as cel: under " +
	"attestations (docs/policies.md)"

// readClusterImagePolicies reads sigstore policy-controller's policies: an
// image must satisfy every policy that matches it, by any of its authorities.
func readClusterImagePolicies(r *report, files []File) []rule {
	var rules []rule
	for _, o := range r.objects(files) {
		group, version, _ := strings.Cut(o.version, "/")
		switch {
		case group == "policy.sigstore.dev" && o.kind == "TrustRoot":
			o.lose("TrustRoot %q is not read: the output names a file where a policy refers to it", o.name)
		case group != "policy.sigstore.dev" || o.kind != "ClusterImagePolicy":
			o.refuse("a %q of %q is no ClusterImagePolicy: take it out of the file", o.kind, o.version)
		case version != "v1alpha1" && version != "v1beta1":
			o.refuse("version %q is not known: v1alpha1 or v1beta1", version)
		default:
			rules = append(rules, readClusterImagePolicy(r, o))
		}
	}
	return rules
}

// cipAuthority is one authority of a ClusterImagePolicy.
type cipAuthority struct {
	authority
	at           value
	static       string
	attestations []string
	repository   string
}

func readClusterImagePolicy(r *report, o kubernetes) rule {
	a := rule{value: o.value, name: o.name}
	r.notes = &a.notes
	defer func() { r.notes = nil }()
	var authorities []cipAuthority
	var match *value
	o.read(func(spec value) {
		spec.object(fields{
			"images": func(v value) {
				for _, image := range v.list() {
					image.object(fields{"glob": func(v value) {
						glob := v.text()
						switch glob { // as policy-controller reads them
						case "*":
							glob = "docker.io/library/*"
						case "*/*":
							glob = "docker.io/*/*"
						}
						first, _, _ := strings.Cut(glob, "/")
						if strings.Contains(first, "*") && first != "**" && !strings.ContainsAny(first, ".:") {
							v.refuse(
								"%q does not say which registry: write the host, index.docker.io for Docker Hub",
								glob,
							)
							return
						}
						a.places = append(a.places, v.globs(glob)...)
					}})
				}
			},
			"authorities": func(v value) {
				for i, e := range v.list() {
					authorities = append(authorities, readCIPAuthority(r, e, fmt.Sprintf("%s-authority-%d", o.name, i)))
				}
			},
			"policy": refused(writeCEL),
			"mode": func(v value) {
				switch v.text() {
				case "warn":
					a.warn = true
				case "enforce", "":
				default:
					v.refuse("must be enforce or warn")
				}
			},
			"match": func(v value) {
				match = &v
				v.lose("pullgate sees no cluster's resources: the policy holds for every pull of its images")
			},
		})
	})
	a.decide(authorities)
	if len(a.places) == 0 && len(r.problems) == 0 {
		o.refuse("has no images: add spec.images")
	}
	if a.static == policy.Allow {
		if match != nil {
			match.refuse(
				"static: pass would hold for every pull, not only for these resources: remove match, or the policy",
			)
		}
		for _, p := range a.places {
			if !p.any {
				p.refuse("static: pass would hold for every tag and digest: write %s@* there if it should", p.glob)
			}
		}
	}
	return a
}

// decide writes "any of these authorities" as what the rule needs.
func (a *rule) decide(authorities []cipAuthority) {
	var signers []authority
	for i, c := range authorities {
		switch c.static {
		case "pass":
			a.static = policy.Allow
			if len(authorities) > 1 {
				c.at.lose("passes whatever the other authorities say: they are not carried")
			}
			return
		case "fail":
			if len(authorities) > 1 {
				c.at.lose("never passes, and the other authorities may: it is not carried")
			}
			continue
		}
		if len(c.attestations) > 1 && len(authorities) > 1 {
			c.at.refuse(
				"asks for several attestations, beside other authorities any of which would do: write one " +
					"attestation, or one authority",
			)
		}
		if i > 0 && c.repository != authorities[0].repository {
			c.at.refuse(
				"its signatures are kept in another place than those of the first authority: a policy has one " +
					"signatureRepository",
			)
		}
		a.repository = c.repository
		if len(c.attestations) == 1 {
			c.accept = c.attestations[0]
		}
		signers = append(signers, c.authority)
	}
	switch {
	case len(authorities) == 0:
		a.refuse("has no authorities: add one, or static: {action: pass}")
	case len(signers) == 0:
		a.static = policy.Deny
		if a.warn {
			a.lose("mode warn does not weaken a static fail here: its images are refused")
		}
	case len(signers) == 1 && len(authorities[0].attestations) > 0 && len(authorities) == 1:
		for _, kind := range authorities[0].attestations {
			a.needs = append(a.needs, need{count: 1, who: signers, kind: kind})
		}
		a.needs[0].who[0].accept = ""
	default:
		a.needs = []need{{count: 1, who: signers}}
	}
}

func readCIPAuthority(r *report, v value, fallback string) cipAuthority {
	c := cipAuthority{at: v}
	before := len(r.problems)
	kinds := 0
	keyless := false
	log, stamp := "", ""  // trust roots, or addresses
	var noLog, sct *value // ctlog: {}, insecureIgnoreSCT
	var ca string
	v.object(fields{
		"name": func(f value) { c.name = f.text() },
		"key": func(f value) {
			kinds++
			if key, ok := readCIPKey(f); ok {
				c.keys = []string{key}
			}
		},
		"keyless": func(f value) {
			kinds++
			keyless = true
			f.object(fields{
				"url": func(u value) {
					if !isAt(u.text(), publicFulcio) {
						ca = hostOf(u.text())
					}
				},
				"identities": func(ids value) {
					for _, e := range ids.list() {
						if id, ok := e.who(exactly, [2]string{"issuerRegExp", "subjectRegExp"}, nil); ok {
							c.identities = append(c.identities, id)
						}
					}
				},
				"ca-cert": func(u value) {
					u.object(fields{
						"secretRef":     func(value) {},
						"data":          func(value) {},
						"kms":           func(value) {},
						"hashAlgorithm": func(value) {},
					})
					ca = fallback
					u.lose("the certificate has to be put into a trust root: see trustRoots")
				},
				"trustRootRef": func(u value) { ca = u.text() },
				"insecureIgnoreSCT": func(u value) {
					if u.flag() {
						sct = &u
					}
				},
			})
		},
		"static": func(f value) {
			kinds++
			f.object(fields{
				"action": func(u value) {
					c.static = u.text()
					if c.static != "pass" && c.static != "fail" {
						u.refuse("must be pass or fail")
					}
				},
				"message": lost("refusals have pullgate's own text"),
			})
		},
		"source": func(f value) {
			sources := f.list()
			if len(sources) > 1 {
				f.refuse("has several places: a policy has one signatureRepository")
			}
			for _, e := range sources {
				e.object(fields{
					"oci": func(u value) {
						repository, err := policy.ParseRepository(u.text())
						if err != nil {
							u.refuse("%v", err)
						}
						c.repository = repository.String()
					},
					"signaturePullSecrets": lost("credentials are the upstream's: auth under upstreams"),
					"tagPrefix": refused(
						"signatures are looked for under cosign's own tags alone: sign without a prefix",
					),
				})
			}
		},
		"ctlog": func(f value) {
			f.object(fields{
				"url": func(u value) {
					if log == "" {
						log = u.text()
					}
				},
				"trustRootRef": func(u value) { log = u.text() },
			})
			if log == "" {
				noLog = &f
			}
		},
		"rfc3161timestamp": func(f value) {
			f.object(fields{"trustRootRef": func(u value) { stamp = u.text() }})
		},
		"signatureFormat": lost("signatures count in either format"),
		"attestations": func(f value) {
			for _, e := range f.list() {
				e.object(fields{
					"name":          lost("attestations have no names here"),
					"predicateType": func(u value) { c.attestations = append(c.attestations, u.text()) },
					"policy":        refused(writeCEL),
				})
			}
		},
	})
	if len(r.problems) == before && kinds != 1 {
		v.refuse("must have exactly one of key, keyless and static")
	}
	if keyless && len(c.identities) == 0 && len(r.problems) == before {
		v.refuse("has no identities: everybody could sign; add keyless.identities")
	}
	if sct != nil {
		sct.lose("is stricter here: a trust root with CT logs demands an SCT")
	}
	c.evidence(v, keyless, ca, log, stamp, noLog)
	return c
}

// evidence settles the trust roots of an authority. In policy-controller a
// timestamp takes the place of the log's entry.
func (c *cipAuthority) evidence(v value, keyless bool, ca, log, stamp string, noLog *value) {
	public := log == "" || isAt(log, publicRekor)
	if !keyless {
		switch {
		case stamp != "":
			c.stamp, c.root = true, v.r.trust(stamp, stamp, makeRoot)
		case log != "":
			c.log = true
			if !public {
				c.root = v.r.trust(hostOf(log), hostOf(log), makeRoot)
			}
		}
		return
	}
	if noLog != nil {
		noLog.lose("is stricter here: a trust root with transparency logs demands an entry")
	}
	if ca == "" && public && stamp == "" {
		return // Sigstore's public instance, the default
	}
	name := ca
	if name == "" {
		name = hostOf(log)
		if public {
			name = stamp
		}
	}
	root := v.r.trust(name, name, makeRoot)
	c.roots = []string{root}
	c.log = stamp == "" && noLog == nil
	c.stamp = stamp != ""
	for _, other := range []string{log, stamp} {
		if other != "" && other != ca && v.r.trust(hostOf(other), hostOf(other), makeRoot) != root {
			v.refuse(
				"names %s and %s: an authority has one trust root, which holds CA, logs and timestamp authority; "+
					"give all of them that name",
				name,
				other,
			)
		}
	}
}

func readCIPKey(v value) (string, bool) {
	key, ok := "", false
	v.object(fields{
		"secretRef": refused(
			"a cluster's secret cannot be read: export its public key (kubectl get secret …) and write it as data",
		),
		"data": func(f value) { key, ok = f.publicKey() },
		"kms":  func(f value) { key, ok = f.keyService() },
		"hashAlgorithm": func(f value) {
			if f.text() != "sha256" {
				f.refuse("signatures by keys are verified with sha256")
			}
		},
	})
	if !ok && len(v.r.problems) == 0 {
		v.refuse("has no key: write data or kms")
	}
	return key, ok
}
