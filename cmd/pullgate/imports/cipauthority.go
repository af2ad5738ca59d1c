package imports

import "github.com/pullgate/pullgate/policy"

// cipAuthority is one authority of a ClusterImagePolicy.
type cipAuthority struct {
	authority
	at           value
	static       string
	attestations []string
	repository   string

	kinds      int  // how many fields say who signs
	formatSaid bool // signatureFormat is written
	evidence   cipEvidence
}

// readCIPAuthority reads an authority; fallback names a trust root that the
// source does not name.
func readCIPAuthority(v value, fallback string) cipAuthority {
	c := cipAuthority{at: v}
	before := len(v.r.problems)
	v.object(fields{
		"name":             func(f value) { c.name = f.text() },
		"key":              c.readKey,
		"keyless":          c.readKeyless,
		"static":           c.readStatic,
		"source":           c.readSource,
		"ctlog":            c.evidence.readLog,
		"rfc3161timestamp": c.evidence.readTimestamp,
		"signatureFormat":  c.readFormat,
		"attestations":     c.readAttestations,
	})

	if len(v.r.problems) == before && c.kinds != 1 {
		v.refuse("must have exactly one of key, keyless and static")
	}
	if c.evidence.keyless && len(c.identities) == 0 && len(v.r.problems) == before {
		v.refuse("has no identities: anyone could sign; add keyless.identities")
	}
	if c.static == "" && !c.formatSaid {
		v.lose(bundlesCount, "policy-controller")
	}
	if c.evidence.noSCT != nil {
		c.evidence.noSCT.lose("is stricter here: a trust root with CT logs demands an SCT")
	}

	if c.evidence.keyless {
		c.evidence.ofIdentities(v, &c.authority, fallback)
	} else {
		c.evidence.ofKeys(v, &c.authority)
	}
	return c
}

func (c *cipAuthority) readKey(v value) {
	c.kinds++
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
	if ok {
		c.keys = []string{key}
	}
}

func (c *cipAuthority) readKeyless(v value) {
	c.kinds++
	e := &c.evidence
	e.keyless = true

	v.object(fields{
		"url": func(f value) {
			if e.ca.ref == "" && !isAt(f.text(), publicFulcio) {
				e.ca.address = f.text()
			}
		},
		"identities": func(f value) { c.identities = append(c.identities, f.identities()...) },
		"ca-cert": func(f value) {
			f.object(fields{
				"secretRef":     carried,
				"data":          carried,
				"kms":           carried,
				"hashAlgorithm": carried,
			})
			e.ca.written = f.words()
			f.lose("the certificate has to be put into a trust root: see trustRoots")
		},
		"trustRootRef": e.ca.refer,
		"insecureIgnoreSCT": func(f value) {
			if f.flag() {
				e.noSCT = &f
			}
		},
	})
}

func (c *cipAuthority) readFormat(v value) {
	c.formatSaid = true
	switch v.text() {
	case "legacy", "":
		v.lose(bundlesCount, "policy-controller")
	case "bundle":
		v.lose(legacyCounts)
	default:
		v.refuse("must be legacy or bundle")
	}
}

func (c *cipAuthority) readStatic(v value) {
	c.kinds++
	v.object(fields{
		"action": func(f value) {
			c.static = f.text()
			if c.static != "pass" && c.static != "fail" {
				f.refuse("must be pass or fail")
			}
		},
		"message": lost("refusals have pullgate's own text"),
	})
}

func (c *cipAuthority) readSource(v value) {
	sources := v.list()
	if len(sources) > 1 {
		v.refuse("has several places: a policy has one signatureRepository")
	}
	for _, e := range sources {
		e.object(fields{
			"oci": func(f value) {
				repository, err := policy.ParseRepository(f.text())
				if err != nil {
					f.refuse("%v", err)
				}
				c.repository = repository.String()
			},
			"signaturePullSecrets": lost("credentials are the upstream's: auth under upstreams"),
			"tagPrefix":            noPrefix(),
		})
	}
}

func (c *cipAuthority) readAttestations(v value) {
	v.items(func(e value) {
		e.object(fields{
			"name":          lost("attestations have no names here"),
			"predicateType": func(f value) { c.attestations = append(c.attestations, f.text()) },
			"policy":        refused(writeCEL),
		})
	})
}
