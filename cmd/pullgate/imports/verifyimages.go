package imports

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/policy"
)

// byHand is what to do about conditions on attestations. Kyverno asks them of
// every attestation of the type, pullgate of one.
const byHand = "Kyverno asks this of every attestation of the type, pullgate's cel of one: it is not carried by itself"

// readVerifyImages reads one entry of verifyImages; said: it has an action of its own.
func readVerifyImages(r *report, a *rule) (said bool) {
	r.notes = &a.notes
	defer func() { r.notes = nil }()

	a.annotations = map[string]string{}
	before := len(r.problems)
	typed := false
	old := refused("is deprecated in Kyverno: write it under attestors")
	var attestations []value
	a.object(fields{
		"failureAction":   func(v value) { a.warn, said = v.auditing(), true },
		"type":            func(v value) { typed = v.signatureType() },
		"image":           a.references,
		"imageReferences": func(v value) { v.items(a.references) },
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
			v.items(func(e value) { a.needs = append(a.needs, a.attestorSet(e, "")) })
		},
		"attestations": func(v value) { attestations = v.list() },
		"annotations":  a.annotate,
		"repository":   a.keptIn,
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
	if !typed {
		a.lose(bundlesCount, "Kyverno's type Cosign, the default,")
	}
	a.lose(childrenByIndex, "Kyverno")

	switch {
	case len(r.problems) > before:
	case len(a.places) == 0:
		a.refuse("has no imageReferences: add them")
	case len(a.needs) == 0:
		a.refuse("has no attestors and no attestations: it verifies nothing; add who must sign")
	}
	return said
}

// signatureType reads which signatures count there; false means that it says
// nothing.
func (v value) signatureType() bool {
	switch v.text() {
	case "":
		return false
	case "Cosign":
		v.lose(bundlesCount, "Kyverno's type Cosign")
	case "SigstoreBundle":
		v.lose(legacyCounts)
	case "Notary":
		v.refuse("Notary's signatures are not verified: sign with cosign")
	default:
		v.refuse("must be Cosign or SigstoreBundle")
	}
	return true
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
		a.needs = append(a.needs, a.attestorSet(e, kind))
	}
}

// unwritten is what stands for a condition that suggestion cannot write.
const unwritten = "…"

// suggestion writes simple comparisons as CEL, for the person who has to.
func suggestion(v value) string {
	var all []string
	for _, e := range v.list() {
		for _, f := range e.Fields() {
			text := comparisons(f.Name, f.Node)
			if text == unwritten {
				return unwritten
			}
			all = append(all, text)
		}
	}
	return strings.Join(all, " && ")
}

// comparisons writes a list of conditions that are joined by all or any.
func comparisons(joined string, list *yaml.Node) string {
	var terms []string
	for _, condition := range list.Content {
		parts := map[string]string{}
		for j := 0; j+1 < len(condition.Content); j += 2 {
			parts[condition.Content[j].Value] = condition.Content[j+1].Value
		}

		key := strings.TrimSpace(strings.Trim(parts["key"], "{} "))
		sign := map[string]string{"Equals": "==", "NotEquals": "!="}[parts["operator"]]
		if sign == "" || key == "" || parts["value"] == "" || strings.ContainsAny(key, " |()") {
			return unwritten
		}
		terms = append(terms, fmt.Sprintf("predicate.%s %s %q", key, sign, parts["value"]))
	}

	join := map[string]string{"all": " && ", "any": " || "}[joined]
	switch {
	case len(terms) == 0 || join == "":
		return unwritten
	case len(terms) > 1:
		return "(" + strings.Join(terms, join) + ")"
	}
	return terms[0]
}
