package policy

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

var (
	keylessFields     = []string{"trustRoots", "identities"}
	identityFields    = []string{"issuer", "issuerRegExp", "subject", "subjectRegExp", "claims"}
	gitHubFields      = []string{"owner", "repository", "workflow", "ref", "trigger", "issuer", "trustRoots"}
	certificateFields = []string{"rootsFile", "intermediatesFile", "subject", "subjectRegExp", "time"}

	gitHubOwner      = regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9_-]{0,99})$`)
	gitHubRepository = regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9_-]{0,99})/[A-Za-z0-9._-]{1,100}$`)
	gitHubWorkflow   = regexp.MustCompile(
		`^(?:[A-Za-z0-9][A-Za-z0-9_-]{0,99}/[A-Za-z0-9._-]{1,100}/)?\.github/workflows/[A-Za-z0-9._ -]+\.ya?ml$`,
	)
	gitRef = regexp.MustCompile(`^refs/[^\s~^:?\[\\]+$`)
)

// keyless reads keyless: {trustRoots, identities}.
func (l *loader) keyless(s source, a *Authority, n *yaml.Node, what string) {
	fields, ok := s.mapping(n, what)
	if !ok {
		return
	}
	s.known(fields, what, keylessFields)
	given := false
	for _, f := range fields {
		switch f.name {
		case "trustRoots":
			l.rootNames(s, a, f.value, what+": trustRoots")
		case "identities":
			given = true
			nodes, _ := s.texts(f.value, what+": identities")
			for i, node := range nodes {
				if identity, ok := s.identity(node, fmt.Sprintf("%s: identity %d", what, i+1)); ok {
					a.Identities = append(a.Identities, identity)
				}
			}
		}
	}
	if !given {
		s.problem(n, "%s has no identities, so anyone with an account at any provider could sign: add issuer and subject", what)
	}
}

// rootNames reads which trust roots an authority names.
func (l *loader) rootNames(s source, a *Authority, n *yaml.Node, what string) {
	nodes, _ := s.texts(n, what)
	for _, node := range nodes {
		if name, ok := s.text(node, what); ok {
			if slices.Contains(a.TrustRoots, name) {
				s.problem(node, "%s: %s is there twice", what, brief(node))
				continue
			}
			a.TrustRoots = append(a.TrustRoots, name)
			l.rootUses = append(l.rootUses, rootUse{s, node, name, what})
		}
	}
}

func (s source) identity(n *yaml.Node, what string) (Identity, bool) {
	fields, ok := s.mapping(n, what)
	if !ok {
		return Identity{}, false
	}
	s.known(fields, what, identityFields)
	var id Identity
	given := map[string]bool{}
	for _, f := range fields {
		label := what + ": " + f.name
		given[f.name] = true
		switch f.name {
		case "issuer":
			id.Issuer = s.exact(f.value, label)
		case "issuerRegExp":
			id.Issuer = s.expression(f.value, label)
		case "subject":
			id.Subject = s.exact(f.value, label)
		case "subjectRegExp":
			id.Subject = s.expression(f.value, label)
		case "claims":
			id.Claims = s.claims(f.value, label)
		}
	}
	for _, name := range []string{"issuer", "subject"} {
		if given[name] && given[name+"RegExp"] {
			s.problem(n, "%s has both %s and %sRegExp: remove one", what, name, name)
			return id, false
		}
	}
	switch {
	case !given["issuer"] && !given["issuerRegExp"]:
		s.problem(n, "%s has no issuer: anybody can run an identity provider that names any subject; add issuer", what)
		return id, false
	case !given["subject"] && !given["subjectRegExp"] && len(id.Claims) == 0:
		s.problem(
			n,
			"%s has no subject and no claims: everybody with an account at the issuer could sign; add subject, "+
				"subjectRegExp or claims",
			what,
		)
		return id, false
	}
	return id, true
}

func (s source) exact(n *yaml.Node, what string) Pattern {
	text, ok := s.text(n, what)
	if ok && (text == "" || len(text) > maxPattern || !printable(text)) {
		s.problem(n, "%s must be printable text, not %s", what, brief(n))
		return Pattern{}
	}
	if ok && strings.Contains(text, "*") {
		s.problem(
			n,
			"%s: %s is compared exactly, * included: for a pattern write %sRegExp",
			what,
			brief(n),
			what[strings.LastIndex(what, " ")+1:],
		)
	}
	return Exactly(text)
}

func (s source) expression(n *yaml.Node, what string) Pattern {
	text, ok := s.text(n, what)
	if !ok {
		return Pattern{}
	}
	p, err := ParsePattern(text)
	if err != nil {
		s.problem(n, "%s: %s %v", what, brief(n), err)
	}
	return p
}

func (s source) claims(n *yaml.Node, what string) map[string]Pattern {
	fields, ok := s.mapping(n, what)
	if !ok {
		return nil
	}
	if len(fields) == 0 {
		s.problem(n, "%s is empty: fill it or leave it out", what)
	}
	known := ClaimNames()
	s.known(fields, what, known)
	claims := map[string]Pattern{}
	for _, f := range fields {
		claims[f.name] = s.expression(f.value, what+": "+f.name)
	}
	return claims
}

// github reads the github: shorthand.
func (l *loader) github(s source, a *Authority, n *yaml.Node, what string) {
	fields, ok := s.mapping(n, what)
	if !ok {
		return
	}
	s.known(fields, what, gitHubFields)
	g := &GitHub{}
	issuer := gitHubIssuer
	formed := func(f field, form *regexp.Regexp, example string) string {
		text, ok := s.text(f.value, what+": "+f.name)
		if ok && !form.MatchString(text) {
			s.problem(f.value, "%s: %s must look like %s, not %s", what, f.name, example, brief(f.value))
		}
		return text
	}
	for _, f := range fields {
		switch f.name {
		case "owner":
			g.Owner = formed(f, gitHubOwner, "acme")
		case "repository":
			g.Repository = formed(f, gitHubRepository, "acme/app")
		case "workflow":
			text, _ := s.text(f.value, what+": workflow")
			path, ref, hasRef := strings.Cut(text, "@")
			if !gitHubWorkflow.MatchString(path) || hasRef && !gitRef.MatchString(ref) {
				s.problem(
					f.value,
					"%s: workflow must look like .github/workflows/release.yml, or "+
						"owner/repo/.github/workflows/release.yml for a reusable one, @refs/tags/v* after it if "+
						"its ref matters, not %s",
					what,
					brief(f.value),
				)
			}
			g.Workflow = text
			if hasRef {
				g.workflowRef = compileGlob(ref)
			}
		case "ref":
			g.Ref = formed(f, gitRef, "refs/heads/main or refs/tags/v*")
			g.ref = compileGlob(g.Ref)
		case "trigger":
			g.Trigger = formed(f, regexp.MustCompile(`^[a-z_]{1,50}$`), "push")
		case "issuer":
			issuer, _ = s.text(f.value, what+": issuer")
		case "trustRoots":
			l.rootNames(s, a, f.value, what+": trustRoots")
		}
	}
	if (g.Owner == "") == (g.Repository == "") {
		s.problem(
			n,
			"%s must have either owner or repository: a workflow alone can be called from any repository",
			what,
		)
	}
	server, err := gitHubServer(issuer)
	if err != nil {
		s.problem(n, "%s: issuer %.200q %v", what, issuer, err)
	}
	g.Server = server
	if len(a.TrustRoots) == 0 {
		a.TrustRoots = []string{PublicGood, GitHubRoot}
	}
	a.Identities = []Identity{{Issuer: Exactly(issuer), GitHub: g}}
}

// pki reads certificate: {rootsFile, …}.
func (l *loader) pki(s source, a *Authority, n *yaml.Node, what string) {
	a.PKI = &Certificate{}
	fields, ok := s.mapping(n, what)
	if !ok {
		return
	}
	s.known(fields, what, certificateFields)
	given := map[string]bool{}
	for _, f := range fields {
		label := what + ": " + f.name
		given[f.name] = true
		switch f.name {
		case "rootsFile":
			a.PKI.Roots = l.certificates(s, f.value, label)
		case "intermediatesFile":
			if f.value.Value == "" {
				break
			}
			a.PKI.Intermediates = l.certificates(s, f.value, label)
		case "subject":
			a.PKI.Subject = s.exact(f.value, label)
		case "subjectRegExp":
			a.PKI.Subject = s.expression(f.value, label)
		case "time":
			word, _ := s.choice(f.value, label, "current", "timestamp")
			a.PKI.RequireTimestamp = word == "timestamp"
		}
	}
	if !given["rootsFile"] {
		s.problem(n, "%s has no rootsFile: name the PEM file with the roots to trust", what)
	}
	if given["subject"] == given["subjectRegExp"] {
		s.problem(n, "%s must have either subject or subjectRegExp: whom the certificate is for", what)
	}
}

// maxCertificates bounds a file of certificates.
const maxCertificates = 64

// certificates reads a PEM file of certificates.
func (l *loader) certificates(s source, n *yaml.Node, what string) []*x509.Certificate {
	name, ok := s.text(n, what)
	if !ok || name == "" {
		s.problem(n, "%s must name a PEM file", what)
		return nil
	}
	text, err := l.read(s.absolute(name), maxPolicyFile)
	if err != nil {
		s.problem(n, "%s: %v", what, err)
		return nil
	}
	list, err := parseCertificates(text)
	if err != nil {
		s.problem(n, "%s: %s %v", what, name, err)
	}
	return list
}

func parseCertificates(text []byte) ([]*x509.Certificate, error) {
	var list []*x509.Certificate
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("holds a PEM %q, not only certificates", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("holds something that is no certificate: %w", err)
		}
		if !c.IsCA {
			return nil, fmt.Errorf("holds a certificate that is no CA's (%.200q)", c.Subject.String())
		}
		if err := checkPublic(c.PublicKey); err != nil {
			return nil, fmt.Errorf("holds a certificate (%.200q) whose key %w", c.Subject.String(), err)
		}
		if list = append(list, c); len(list) > maxCertificates {
			return nil, fmt.Errorf("holds more than %d certificates", maxCertificates)
		}
	}
	if strings.TrimSpace(string(text)) != "" && strings.Contains(string(text), pemBegin) {
		return nil, errors.New("is cut off or not valid PEM")
	}
	if len(list) == 0 {
		return nil, errors.New("holds no PEM certificate")
	}
	return list, nil
}
