package imports

import (
	"encoding/base64"
	"slices"
	"strings"

	"github.com/pullgate/pullgate/policy"
)

// sigstoreSigned is a requirement of policy.json: a signature by cosign.
type sigstoreSigned struct {
	authority
	kinds int      // how many fields say who signs
	of    []string // what the trust root is made of

	fulcio, rekor, named bool // which fields are written; named: signedIdentity
}

func readSigstoreSigned(v value, scope string) need {
	var s sigstoreSigned
	v.object(s.fields())

	if s.kinds != 1 {
		v.refuse("must have exactly one of keyPath, keyPaths, keyData, keyDatas, fulcio and pki")
	}
	if !s.named {
		v.lose(
			"WEAKER: the name in a signature is not compared (matchRepoDigestOrExact there); a signature for the " +
				"same bytes counts, whatever repository it was made for",
		)
	}
	if s.fulcio && !s.rekor {
		v.refuse("fulcio demands a rekorPublicKey: containers-policy.json(5) says so")
	}

	if s.rekor || s.fulcio {
		slices.Sort(s.of)
		root := v.trust(
			"policy-json-"+scope,
			scope+"\n"+strings.Join(s.of, ""),
			"the CA and the log's keys that the source names",
		)
		s.log = true
		if s.fulcio {
			s.roots = []string{root}
		} else {
			s.root = root
		}
	}
	return need{count: 1, who: []authority{s.authority}}
}

func (s *sigstoreSigned) fields() fields {
	one := func(read func(value)) func(value) {
		return func(v value) {
			s.kinds++
			read(v)
		}
	}

	return fields{
		"type":                carried,
		"keyPath":             one(s.readKeyPath),
		"keyPaths":            one(func(v value) { v.items(s.readKeyPath) }),
		"keyData":             one(s.readKeyData),
		"keyDatas":            one(func(v value) { v.items(s.readKeyData) }),
		"fulcio":              one(s.readFulcio),
		"pki":                 one(s.readPKI),
		"rekorPublicKeyPath":  s.readLog,
		"rekorPublicKeyPaths": s.readLog,
		"rekorPublicKeyData":  s.readLog,
		"rekorPublicKeyDatas": s.readLog,
		"signedIdentity": func(v value) {
			s.named = true
			v.object(fields{
				"type":             carried,
				"dockerReference":  carried,
				"dockerRepository": carried,
				"prefix":           carried,
				"signedPrefix":     carried,
			})
			v.lose(
				"WEAKER: the name in a signature is not compared; a signature for the same bytes counts, whatever " +
					"repository it was made for",
			)
		},
	}
}

func (s *sigstoreSigned) readKeyPath(v value) { s.keys = append(s.keys, v.path()) }

func (s *sigstoreSigned) readKeyData(v value) {
	pem, err := base64.StdEncoding.DecodeString(v.text())
	if err != nil {
		v.refuse("is no base64: %v", err)
		return
	}
	if _, err := policy.ParseKey(pem); err != nil {
		v.refuse("the key %v", err)
		return
	}
	s.keys = append(s.keys, strings.TrimSpace(string(pem))+"\n")
}

func (s *sigstoreSigned) readFulcio(v value) {
	s.fulcio = true
	var id identity
	ca := func(f value) {
		s.of = append(s.of, f.words())
		f.lose("the CA's certificate has to be put into a trust root: see trustRoots")
	}
	v.object(fields{
		"caPath":       ca,
		"caData":       ca,
		"oidcIssuer":   func(f value) { id.issuer, id.issuerRegExp = exactly(f.text()) },
		"subjectEmail": func(f value) { id.subject, id.email = f.email(), true },
	})

	if id.issuer+id.issuerRegExp == "" || id.subject == "" {
		v.refuse("must have oidcIssuer and subjectEmail")
	}
	s.identities = []identity{id}
}

func (s *sigstoreSigned) readPKI(v value) {
	s.pki = &pki{}
	data := refused("certificates are read from files: write them into one, and its name as Path")
	subject := func(read func(value) string) func(value) {
		return func(f value) {
			if s.pki.subject != "" {
				f.refuse("a certificate's subject is one name here: write subjectEmail or subjectHostname")
			}
			s.pki.subject = read(f)
		}
	}
	v.object(fields{
		"caRootsPath":         func(f value) { s.pki.roots = f.path() },
		"caRootsData":         data,
		"caIntermediatesPath": func(f value) { s.pki.intermediates = f.path() },
		"caIntermediatesData": data,
		"subjectEmail": func(f value) {
			s.pki.email = true
			subject(value.email)(f)
		},
		"subjectHostname": subject(value.hostname),
	})

	if s.pki.subject == "" || s.pki.roots == "" {
		v.refuse("must have caRootsPath, and subjectEmail or subjectHostname")
	}
}

func (s *sigstoreSigned) readLog(v value) {
	s.rekor = true
	s.of = append(s.of, v.words())
	v.lose("the log's key has to be put into a trust root: see trustRoots")
}

// email reads an address, which is compared with the e-mail names of a
// certificate alone.
func (v value) email() string {
	local, domain, ok := strings.Cut(v.text(), "@")
	if !ok || local == "" || !isHostname(domain) || strings.ContainsAny(local, ":/ *") {
		v.refuse(
			"%.80q is no e-mail address, and no other name of a certificate is compared there: write one",
			v.text(),
		)
	}
	return v.text()
}

// hostname reads the name of a host, which is compared with DNS names.
func (v value) hostname() string {
	if !isHostname(v.text()) {
		v.refuse("%.80q is no host, and no other name of a certificate is compared there: write one", v.text())
	}
	return v.text()
}

func isHostname(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") == ""
}

// path reads the name of a file.
func (v value) path() string {
	if !strings.HasPrefix(v.text(), "/") {
		v.lose("a relative path is relative to the policy file here")
	}
	return v.text()
}
