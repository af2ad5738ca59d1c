package imports

import (
	"strings"

	"github.com/pullgate/pullgate/policy"
)

// attestorSet reads a set of Kyverno's attestors: count of its entries, all
// without count. kind is the attestation that they make; "": a signature.
func (a *rule) attestorSet(v value, kind string) need {
	n := need{kind: kind}
	count := value{}
	v.object(fields{
		"count": func(f value) {
			count = f
			n.count = f.number()
		},
		"entries": func(f value) {
			f.items(func(e value) { n.who = append(n.who, a.attestor(e)...) })
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
		"keys": func(f value) {
			kinds++
			all = readKyvernoKeys(f, a.name)
		},
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
			who, count := collapse(a.attestorSet(f, ""))
			if len(who) != count || len(who) != 1 {
				f.refuse(
					"a set within a set cannot be carried, unless it is one of several keys or identities: " +
						"write it out",
				)
			}
			all = who
		},
		"annotations":        a.annotate,
		"repository":         a.keptIn,
		"signatureAlgorithm": sha256Only,
	})

	if kinds != 1 && len(v.r.problems) == 0 {
		v.refuse("must have exactly one of keys, keyless, certificates and attestor")
	}
	return all
}

// readKyvernoKeys reads the keys of an entry of the rule of that name.
func readKyvernoKeys(v value, ruleName string) []authority {
	var keys []string
	var e evidence
	v.object(fields{
		"publicKeys":         func(f value) { keys = append(keys, f.kyvernoKeys()...) },
		"signatureAlgorithm": sha256Only,
		"kms": func(f value) {
			if key, ok := f.keyService(); ok {
				keys = append(keys, key)
			}
		},
		"secret": func(f value) {
			f.object(fields{"name": carried, "namespace": carried})
			f.refuse(
				"a cluster's secret cannot be read: export its public key (kubectl get secret …) and write it as " +
					"publicKeys",
			)
		},
		"rekor": e.rekor(ruleName),
		"ctlog": e.ctlog(ruleName),
	})

	var all []authority
	for _, key := range keys {
		a := authority{keys: []string{key}}
		e.ofKeys(v, &a)
		all = append(all, a)
	}
	return all
}

// kyvernoKeys reads one text of several PEM keys, or a reference to one.
func (v value) kyvernoKeys() []string {
	var keys []string
	if !strings.Contains(v.text(), "-----BEGIN") {
		if strings.Contains(v.text(), "{{") {
			v.refuse("a variable cannot be read: write the public key as PEM text")
		} else if key, ok := v.keyService(); ok {
			keys = append(keys, key)
		}
		return keys
	}

	for part := range strings.SplitAfterSeq(v.text(), "-----END PUBLIC KEY-----") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		one := v
		node := *v.Node
		node.Value = part
		one.Node = &node
		if key, ok := one.publicKey(); ok {
			keys = append(keys, key)
		}
	}
	return keys
}

// readKyvernoKeyless reads the identity of an entry of the rule of that name.
func readKyvernoKeyless(v value, ruleName string) (authority, bool) {
	var e evidence
	var a authority
	claims := map[string]string{}
	id, ok := v.identity(identityForm{
		plain:         matching,
		issuerRegExp:  "issuerRegExp",
		subjectRegExp: "subjectRegExp",
		more: fields{
			"rekor": e.rekor(ruleName),
			"ctlog": e.ctlog(ruleName),
			"roots": func(f value) {
				e.made(f, ruleName)
				f.lose("the certificates have to be put into a trust root: see trustRoots")
			},
			"additionalExtensions": func(f value) {
				f.each(func(name string, u value) { u.claim(name, claims) })
			},
		},
	})

	if len(claims) > 0 {
		id.claims = claims
	}
	a.identities = []identity{id}
	e.ofIdentities(v, &a)
	return a, ok
}

// claim reads what an extension of a certificate must be, as an expression.
// Kyverno compares names of extensions without case.
func (v value) claim(name string, claims map[string]string) {
	for _, known := range policy.ClaimNames() {
		if !strings.EqualFold(known, name) {
			continue
		}

		expression, plain := wildcards(v.text())
		if plain {
			_, expression = exactly(v.text() + "*")
			expression = strings.TrimSuffix(expression, `\*`)
		}
		claims[known] = expression
		return
	}
	v.refuse("is no claim that pullgate knows: %s", strings.Join(policy.ClaimNames(), ", "))
}
