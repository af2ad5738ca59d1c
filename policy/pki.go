package policy

import "crypto/x509"

// Certificate is a PKI of one's own: what its roots issued, to whom Subject
// says.
type Certificate struct {
	Roots         []*x509.Certificate // at least one; self-signed or not, each is trusted
	Intermediates []*x509.Certificate
	Subject       Pattern // some subject alternative name of the leaf

	// SubjectEmail compares Subject with e-mail names alone.
	SubjectEmail bool

	// RequireTimestamp demands that an RFC 3161 timestamp proves the
	// certificate's validity (time: timestamp). Otherwise the chain has to be
	// valid now, or at such a timestamp if there is one.
	RequireTimestamp bool
}

var certificateFields = []string{"rootsFile", "intermediatesFile", "subject", "subjectRegExp", "subjectEmail", "time"}

// pki reads certificate: {rootsFile, …}. It never returns nil, which would be
// an authority of another kind.
func (l *loader) pki(v value) *Certificate {
	pki := &Certificate{}
	fields, ok := v.mapping()
	if !ok {
		return pki
	}
	known(fields, certificateFields)

	given := map[string]bool{}
	for _, f := range fields {
		given[f.name] = true
		switch f.name {
		case "rootsFile":
			pki.Roots = l.certificates(f.value)
		case "intermediatesFile":
			if f.Node.Value != "" {
				pki.Intermediates = l.certificates(f.value)
			}
		case "subject":
			pki.Subject = f.exact()
		case "subjectRegExp":
			pki.Subject = f.expression()
		case "subjectEmail":
			pki.Subject, pki.SubjectEmail = f.exact(), true
		case "time":
			pki.RequireTimestamp = f.choice("current", "timestamp") == "timestamp"
		}
	}

	if !given["rootsFile"] {
		v.problem("%s has no rootsFile: name the PEM file with the roots to trust", v.Path)
	}
	subjects := 0
	for _, name := range []string{"subject", "subjectRegExp", "subjectEmail"} {
		if given[name] {
			subjects++
		}
	}
	if subjects != 1 {
		v.problem(
			"%s must have either subject or subjectRegExp, or else subjectEmail: whom the certificate is for",
			v.Path,
		)
	}
	return pki
}

// certificates reads the name of a PEM file of certificates, and the file.
func (l *loader) certificates(v value) []*x509.Certificate {
	name, ok := v.text()
	if !ok || name == "" {
		v.problem("%s must name a PEM file", v.Path)
		return nil
	}
	text, err := l.read(v.absolute(name), maxPolicyFile)
	if err != nil {
		v.problem("%s: %v", v.Path, err)
		return nil
	}

	list, err := parseCertificates(text)
	if err != nil {
		v.problem("%s: %s %v", v.Path, name, err)
	}
	return list
}
