package imports

// ivpAttestor is one attestor of an ImageValidatingPolicy.
type ivpAttestor struct {
	authority
	rule     *rule
	evidence evidence

	cosign, keyless, log bool // which fields are written
}

// readAttestor reads one attestor, which validations name.
func (a *imageValidatingPolicy) readAttestor(v value) {
	who := ivpAttestor{rule: &a.rule}
	v.object(fields{
		"name":   func(f value) { who.name = f.text() },
		"notary": refused("Notary's signatures are not verified: sign with cosign"),
		"cosign": who.readCosign,
	})

	switch {
	case len(v.r.problems) > 0:
	case who.name == "" || !who.cosign:
		v.refuse("must have a name, and cosign")
	case (len(who.keys) > 0) == (len(who.identities) > 0):
		v.refuse("must have either a key or keyless identities")
	}

	if who.keyless {
		who.evidence.ofIdentities(v, &who.authority)
	} else {
		if !who.log {
			v.lose("a key without ctlog asks for an entry of the public transparency log here")
		}
		who.evidence.ofKeys(v, &who.authority)
	}
	a.attestors[who.name] = who.authority
}

func (who *ivpAttestor) readCosign(v value) {
	who.cosign = true

	v.object(fields{
		"key":     who.readKey,
		"keyless": who.readKeyless,
		"certificate": refused(
			"certificates are read from files: write them into one, take this attestor out, and add " +
				"certificate: {rootsFile: FILE, subject: …} by hand",
		),
		"source": func(f value) {
			f.object(fields{
				"repository":  who.rule.keptIn,
				"PullSecrets": lost("credentials are the upstream's: auth under upstreams"),
				"tagPrefix":   noPrefix(),
			})
		},
		"ctlog": who.readLog,
		"tuf": func(f value) {
			f.object(fields{
				"mirror": carried,
				"root":   func(u value) { u.object(fields{"path": carried, "data": carried}) },
			})
			who.evidence.made(f, who.rule.name)
			f.lose("the mirror has to be written under trustRoots as tuf: {mirror: …, root: FILE}")
		},
		"annotations": who.rule.annotate,
	})
}

func (who *ivpAttestor) readKey(v value) {
	v.object(fields{
		"data": func(f value) {
			if key, ok := f.publicKey(); ok {
				who.keys = []string{key}
			}
		},
		"kms": func(f value) {
			if key, ok := f.keyService(); ok {
				who.keys = []string{key}
			}
		},
		"hashAlgorithm": sha256Only,
		"expression":    refused("an expression cannot be read: write the public key as data"),
	})
}

func (who *ivpAttestor) readKeyless(v value) {
	who.keyless = true
	v.object(fields{
		"identities": func(f value) { who.identities = append(who.identities, f.identities()...) },
		"roots": func(f value) {
			who.evidence.made(f, who.rule.name)
			f.lose("the certificates have to be put into a trust root: see trustRoots")
		},
	})
}

func (who *ivpAttestor) readLog(v value) {
	who.log = true
	e := &who.evidence
	intoRoot := func(f value) {
		e.made(f, who.rule.name)
		f.lose("has to be put into a trust root: see trustRoots")
	}

	v.object(fields{
		"url": func(f value) {
			if !isAt(f.text(), publicRekor) && f.text() != "" {
				e.made(f, hostOf(f.text()))
			}
		},
		"rekorPubKey": intoRoot,
		"ctLogPubKey": intoRoot,
		"tsaCertChain": func(f value) {
			e.stamp = true
			intoRoot(f)
		},
		"insecureIgnoreTlog": func(f value) { e.noLog = f.flag() },
		"insecureIgnoreSCT":  func(f value) { e.noSCT = f.flag() },
	})
}
