package imports

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/policy"
)

// byHand is what to do about conditions on attestations. Kyverno asks them of
// every attestation of the type, pullgate of one.
const byHand = "Kyverno asks this of every attestation of the type, pullgate's cel of one: it is not carried by itself"

// readKyverno reads Kyverno's policies about images. All that match must hold.
func readKyverno(r *report, files []File) []rule {
	var rules []rule
	for _, o := range r.objects(files) {
		group, version, _ := strings.Cut(o.version, "/")
		switch {
		case group == "kyverno.io" && o.kind == "ClusterPolicy":
			if version != "v1" && version != "v2beta1" {
				o.refuse("version %q is not known: v1 or v2beta1", version)
			}
			rules = append(rules, readClusterPolicy(r, o)...)
		case group == "policies.kyverno.io" && o.kind == "ImageValidatingPolicy":
			if version != "v1" && version != "v1beta1" && version != "v1alpha1" {
				o.refuse("version %q is not known: v1, v1beta1 or v1alpha1", version)
			}
			rules = append(rules, readImageValidatingPolicy(r, o)...)
		case o.kind == "Policy" || o.kind == "NamespacedImageValidatingPolicy":
			o.refuse(
				"a policy of one namespace would hold for every pull here: make it a cluster's policy if it " +
					"should, or take it out of the file",
			)
		default:
			o.refuse("a %q of %q is no policy about images: take it out of the file", o.kind, o.version)
		}
	}
	return rules
}

// auditing reads a failure action.
func (v value) auditing() bool {
	switch strings.ToLower(v.text()) {
	case "audit":
		return true
	case "enforce":
	default:
		v.refuse("must be Enforce or Audit")
	}
	return false
}

// everyPull is said of what selects resources of a cluster.
const everyPull = "pullgate sees no cluster's resources: the policy holds for every pull of its images"

// verifyImages is one entry of a rule, with what was lost beside it.
type verifyImages struct {
	name  string
	at    value
	notes []string
}

func readClusterPolicy(r *report, o kubernetes) []rule {
	audit, said := true, false // Kyverno's default
	enforced := false          // what one rule says is the whole policy's action
	var entries []verifyImages
	var notes []string
	r.notes = &notes
	defer func() { r.notes = nil }()
	cluster := lost("is the cluster's")
	o.read(func(spec value) {
		spec.object(fields{
			"validationFailureAction": func(v value) { audit, said = v.auditing(), true },
			"validationFailureActionOverrides": refused(
				"pullgate knows no namespaces: write one validationFailureAction",
			),
			"rules": func(v value) {
				for _, e := range v.list() {
					name := ""
					var images []value
					var own []string
					r.notes = &own
					e.object(fields{
						"name":                   func(f value) { name = f.text() },
						"match":                  lost(everyPull),
						"exclude":                lost(everyPull),
						"preconditions":          lost(everyPull),
						"celPreconditions":       lost(everyPull),
						"context":                lost("variables are the cluster's"),
						"imageExtractors":        lost(everyPull),
						"reportProperties":       cluster,
						"skipBackgroundRequests": cluster,
						"mutate":                 lost("is not about images"),
						"validate": func(f value) {
							enforced = enforced || f.denies()
							f.lose("is not about signatures: keep this rule in Kyverno")
						},
						"generate":     lost("is not about images"),
						"verifyImages": func(f value) { images = f.list() },
					})
					for i, image := range images {
						full := o.name + "/" + name
						if len(images) > 1 {
							full += fmt.Sprintf(" %d", i+1)
						}
						entries = append(entries, verifyImages{full, image, own})
					}
					r.notes = &notes
				}
			},
			"applyRules":                     refusedIfNot("All", "every rule that matches holds here"),
			"failurePolicy":                  lost("what cannot be told is answered with 503"),
			"emitWarning":                    cluster,
			"admission":                      cluster,
			"background":                     cluster,
			"schemaValidation":               cluster,
			"webhookTimeoutSeconds":          cluster,
			"webhookConfiguration":           cluster,
			"mutateExistingOnPolicyUpdate":   cluster,
			"generateExisting":               cluster,
			"generateExistingOnPolicyUpdate": cluster,
			"useServerSideApply":             cluster,
		})
	})
	r.notes = nil
	var rules []rule
	for _, e := range entries {
		a := rule{
			value: e.at,
			name:  e.name,
			warn:  audit,
			notes: slices.Concat(notes, e.notes),
		}
		written := readVerifyImages(r, &a)
		said, enforced = said || written, enforced || !a.warn
		rules = append(rules, a)
	}
	for i := range rules {
		a := &rules[i]
		r.notes = &a.notes
		switch {
		case enforced && a.warn:
			a.warn = false
			a.lose("denies, as another rule of this policy does: Kyverno has one action for all of them")
		case !said:
			a.lose("no failureAction is written, which means Audit: it becomes mode: warn")
		}
		r.notes = nil
	}
	return rules
}

// denies reports whether a rule about something else may make its policy deny.
func (v value) denies() bool {
	may := v.node.Kind != yaml.MappingNode // written elsewhere
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		switch v.node.Content[i].Value {
		case "failureAction":
			may = may || !strings.EqualFold(v.node.Content[i+1].Value, "audit")
		case "failureActionOverrides":
			may = true // in some namespace, perhaps
		}
	}
	return may
}

// refusedIfNot is for a choice of which one alone can be carried.
func refusedIfNot(choice, why string) func(value) {
	return func(v value) {
		if v.text() != choice {
			v.refuse("%s: only %s can be carried", why, choice)
		}
	}
}

// readVerifyImages reads one entry of verifyImages; said: it has an action of its own.
func readVerifyImages(r *report, a *rule) (said bool) {
	r.notes = &a.notes
	defer func() { r.notes = nil }()
	a.annotations = map[string]string{}
	old := refused("is deprecated in Kyverno: write it under attestors")
	before := len(r.problems)
	var attestations []value
	a.object(fields{
		"failureAction": func(v value) { a.warn, said = v.auditing(), true },
		"type": func(v value) {
			if v.text() == "Notary" {
				v.refuse("Notary's signatures are not verified: sign with cosign")
				return
			}
			v.lose("signatures count in either format")
		},
		"image": func(v value) { a.references(v) },
		"imageReferences": func(v value) {
			for _, e := range v.list() {
				a.references(e)
			}
		},
		"skipImageReferences": lost(
			"is stricter here: these are verified as well; to exempt them put a policy with static: allow before " +
				"this one",
		),
		"key":                  old,
		"roots":                old,
		"subject":              old,
		"issuer":               old,
		"additionalExtensions": old,
		"attestors": func(v value) {
			for _, e := range v.list() {
				a.needs = append(a.needs, a.attestors(e, ""))
			}
		},
		"attestations": func(v value) { attestations = v.list() },
		"annotations":  func(v value) { a.annotate(v) },
		"repository":   func(v value) { a.keptIn(v) },
		"cosignOCI11":  lost("signatures are looked for under tags and by the referrers API"),
		"mutateDigest": lost("a pull by tag is resolved once, and what was verified is served"),
		"verifyDigest": lost("pulls by tag are verified as well"),
		"required":     lost("every pull is verified"),
		"validate": refused(
			"conditions over several attestations cannot be carried: write cel: under attestations",
		),
		"imageRegistryCredentials": lost("credentials are the upstream's: auth under upstreams"),
		"useCache":                 lost("verdicts are kept as verdicts: in the configuration says"),
	})
	for _, e := range attestations {
		a.attested(e)
	}
	switch {
	case len(r.problems) > before:
	case len(a.places) == 0:
		a.refuse("has no imageReferences: add them")
	case len(a.needs) == 0:
		a.refuse("has no attestors and no attestations: it verifies nothing; add who must sign")
	}
	return said
}

// references adds a pattern over image names, in which * crosses "/".
func (a *rule) references(v value) {
	pattern := v.text()
	if strings.ContainsAny(pattern, "?[]{}") {
		v.refuse("%q: only * is a wildcard in pullgate's patterns: write several patterns", pattern)
		return
	}
	pattern = crossing(pattern)
	a.places = append(a.places, v.globs(pattern)...)
	// Kyverno sees Docker Hub's own images as written, without library/.
	host, rest, _ := strings.Cut(pattern, "/")
	if rest == "" || strings.Contains(rest, "/") || strings.HasPrefix(rest, "*") {
		return
	}
	hub := host == "docker.io" && strings.Contains(rest, "*")
	for _, text := range dialect(pattern) {
		hub = hub || onHost(text, "docker.io")
	}
	if hub {
		a.places = append(a.places, v.globs("docker.io/library/"+rest)...)
	}
}

func (a *rule) annotate(v value) {
	for key, want := range v.table() {
		if strings.ContainsAny(want, "*?") {
			v.refuse("%s: annotations are compared exactly, %q has a wildcard", key, want)
		}
		if other, ok := a.annotations[key]; ok && other != want {
			v.refuse("%s is %q here and %q before: a policy asks one value of every signature", key, want, other)
		}
		a.annotations[key] = want
	}
	v.lose("is asked of every signature that counts for this policy")
}

func (a *rule) keptIn(v value) {
	repository, err := policy.ParseRepository(v.text())
	switch {
	case err != nil:
		v.refuse("%v", err)
	case a.repository != "" && a.repository != repository.String():
		v.refuse("signatures are looked for in %s as well: a policy has one signatureRepository", a.repository)
	}
	a.repository = repository.String()
	v.lose("is where every signature for this policy is looked for")
}

// attestors reads a set: count of its entries, all without count.
func (a *rule) attestors(v value, kind string) need {
	n := need{kind: kind}
	count := value{}
	v.object(fields{
		"count": func(f value) { count = f; n.count = f.number() },
		"entries": func(f value) {
			for _, e := range f.list() {
				n.who = append(n.who, a.attestor(e)...)
			}
		},
	})
	if n.count == 0 {
		n.count = len(n.who)
	}
	switch {
	case len(n.who) == 0 && len(v.r.problems) == 0:
		v.refuse("has no entries: add who must sign")
	case n.count > len(n.who) && len(v.r.problems) == 0:
		count.refuse("%d of %d entries can never be reached", n.count, len(n.who))
	}
	return n
}

// attestor reads one entry. Each key of several counts for itself, as there.
func (a *rule) attestor(v value) []authority {
	var all []authority
	kinds := 0
	v.object(fields{
		"keys": func(f value) { kinds++; all = readKyvernoKeys(f, a.name) },
		"keyless": func(f value) {
			kinds++
			if one, ok := readKyvernoKeyless(f, a.name); ok {
				all = []authority{one}
			}
		},
		"certificates": func(f value) {
			kinds++
			f.refuse(
				"certificates are read from files: write them into one, take this entry out, and add certificate: " +
					"{rootsFile: FILE, subject: …} by hand",
			)
		},
		"attestor": func(f value) {
			kinds++
			who, count := collapse(a.attestors(f, ""))
			if len(who) != count || len(who) != 1 {
				f.refuse(
					"a set within a set cannot be carried, unless it is one of several keys or identities: " +
						"write it out",
				)
			}
			all = who
		},
		"annotations":        func(f value) { a.annotate(f) },
		"repository":         func(f value) { a.keptIn(f) },
		"signatureAlgorithm": sha256Only,
	})
	if kinds != 1 && len(v.r.problems) == 0 {
		v.refuse("must have exactly one of keys, keyless, certificates and attestor")
	}
	return all
}

func sha256Only(v value) {
	if v.text() != "sha256" && v.text() != "" {
		v.refuse("signatures by keys are verified with sha256")
	}
}

// evidence is what a source says of logs and timestamps.
type evidence struct {
	noLog, noSCT bool
	own          string // names a trust root when it is not Sigstore's public one
	stamp        bool
	of           []string // what that trust root is made of
}

// root asks for the trust root that is not Sigstore's public one.
func (e *evidence) root(v value) string {
	slices.Sort(e.of)
	return v.r.trust(e.own, strings.Join(e.of, ""), makeRoot)
}

// made says that a field becomes a part of the trust root of that name.
func (e *evidence) made(f value, name string) {
	e.own = name
	e.of = append(e.of, f.words())
}

func (e *evidence) rekor(name string) func(value) {
	return func(v value) {
		v.object(fields{
			"url": func(f value) {
				if !isAt(f.text(), publicRekor) && f.text() != "" {
					e.made(f, hostOf(f.text()))
				}
			},
			"pubkey": func(f value) {
				e.made(f, name)
				f.lose("the log's key has to be put into a trust root: see trustRoots")
			},
			"ignoreTlog": func(f value) { e.noLog = f.flag() },
		})
	}
}

func (e *evidence) ctlog(name string) func(value) {
	return func(v value) {
		v.object(fields{
			"ignoreSCT": func(f value) { e.noSCT = f.flag() },
			"pubkey": func(f value) {
				e.made(f, name)
				f.lose("the log's key has to be put into a trust root: see trustRoots")
			},
			"tsaCertChain": func(f value) {
				e.stamp = true
				e.made(f, name)
				f.lose("the chain has to be put into a trust root: see trustRoots")
			},
		})
	}
}

// ofKeys settles what signatures by keys must bring.
func (e *evidence) ofKeys(v value, a *authority) {
	a.log, a.stamp = !e.noLog, e.stamp
	if e.own != "" && (a.log || a.stamp) {
		a.root = e.root(v)
	}
}

// ofIdentities settles what keyless signatures must bring.
func (e *evidence) ofIdentities(v value, a *authority) {
	if e.noLog {
		v.lose("ignoring the transparency log is stricter here: a trust root with logs demands an entry")
	}
	if e.noSCT {
		v.lose("ignoring SCTs is stricter here: a trust root with CT logs demands one")
	}
	if e.own == "" {
		return
	}
	a.roots = []string{e.root(v)}
	a.log, a.stamp = !e.noLog, e.stamp
}

func readKyvernoKeys(v value, rule string) []authority {
	var keys []string
	var e evidence
	v.object(fields{
		"publicKeys": func(f value) {
			if !strings.Contains(f.text(), "-----BEGIN") {
				if strings.Contains(f.text(), "{{") {
					f.refuse("a variable cannot be read: write the public key as PEM text")
				} else if key, ok := f.keyService(); ok {
					keys = append(keys, key)
				}
				return
			}
			for part := range strings.SplitAfterSeq(f.text(), "-----END PUBLIC KEY-----") {
				if strings.TrimSpace(part) == "" {
					continue
				}
				one := f
				node := *f.node
				node.Value = part
				one.node = &node
				if key, ok := one.publicKey(); ok {
					keys = append(keys, key)
				}
			}
		},
		"signatureAlgorithm": sha256Only,
		"kms": func(f value) {
			if key, ok := f.keyService(); ok {
				keys = append(keys, key)
			}
		},
		"secret": func(f value) {
			f.object(fields{"name": func(value) {}, "namespace": func(value) {}})
			f.refuse(
				"a cluster's secret cannot be read: export its public key (kubectl get secret …) and write it as " +
					"publicKeys",
			)
		},
		"rekor": e.rekor(rule),
		"ctlog": e.ctlog(rule),
	})
	var all []authority
	for _, key := range keys {
		a := authority{keys: []string{key}}
		e.ofKeys(v, &a)
		all = append(all, a)
	}
	return all
}

func readKyvernoKeyless(v value, rule string) (authority, bool) {
	var e evidence
	var a authority
	claims := map[string]string{}
	id, ok := v.who(matching, [2]string{"issuerRegExp", "subjectRegExp"}, fields{
		"rekor": e.rekor(rule),
		"ctlog": e.ctlog(rule),
		"roots": func(f value) {
			e.made(f, rule)
			f.lose("the certificates have to be put into a trust root: see trustRoots")
		},
		"additionalExtensions": func(f value) {
			f.each(func(name string, u value) {
				for _, known := range policy.ClaimNames() {
					if strings.EqualFold(known, name) {
						claims[known], _ = wildcards(u.text())
						if _, plain := wildcards(u.text()); plain {
							_, claims[known] = exactly(u.text() + "*")
							claims[known] = strings.TrimSuffix(claims[known], `\*`)
						}
						return
					}
				}
				u.refuse("is no claim that pullgate knows: %s", strings.Join(policy.ClaimNames(), ", "))
			})
		},
	})
	if len(claims) > 0 {
		id.claims = claims
	}
	a.identities = []identity{id}
	e.ofIdentities(v, &a)
	return a, ok
}

// attested reads one attestation that must be there.
func (a *rule) attested(v value) {
	kind := ""
	var sets []value
	v.object(fields{
		"name":          lost("attestations have no names here"),
		"predicateType": func(f value) { kind = f.text() },
		"type":          func(f value) { kind = f.text() },
		"attestors":     func(f value) { sets = f.list() },
		"conditions": func(f value) {
			f.refuse("%s; take it out, import, and write under attestations: cel: %s", byHand, suggestion(f))
		},
	})
	if kind == "" {
		v.refuse("has no type: name the predicate type")
	}
	if len(sets) == 0 && len(v.r.problems) == 0 {
		v.refuse("has no attestors: add who must have made the attestation")
	}
	for _, e := range sets {
		a.needs = append(a.needs, a.attestors(e, kind))
	}
}

// suggestion writes simple comparisons as CEL, for the person who has to.
func suggestion(v value) string {
	var all []string
	for _, e := range v.list() {
		for i := 0; e.node.Kind == yaml.MappingNode && i+1 < len(e.node.Content); i += 2 {
			var terms []string
			for _, c := range e.node.Content[i+1].Content {
				at := map[string]string{}
				for j := 0; j+1 < len(c.Content); j += 2 {
					at[c.Content[j].Value] = c.Content[j+1].Value
				}
				key := strings.TrimSpace(strings.Trim(at["key"], "{} "))
				sign := map[string]string{"Equals": "==", "NotEquals": "!="}[at["operator"]]
				if sign == "" || key == "" || at["value"] == "" || strings.ContainsAny(key, " |()") {
					return "…"
				}
				terms = append(terms, fmt.Sprintf("predicate.%s %s %q", key, sign, at["value"]))
			}
			join := map[string]string{"all": " && ", "any": " || "}[e.node.Content[i].Value]
			if len(terms) == 0 || join == "" {
				return "…"
			}
			text := strings.Join(terms, join)
			if len(terms) > 1 {
				text = "(" + text + ")"
			}
			all = append(all, text)
		}
	}
	return strings.Join(all, " && ")
}
