package lint

import (
	"crypto/rsa"
	"fmt"
	"time"

	"github.com/pullgate/pullgate/policy"
)

const (
	// minRSABits is what NIST SP 800-57 asks of keys that are to be trusted
	// beyond 2030.
	minRSABits = 3072

	// soonOver is when the end of a certificate is worth a word.
	soonOver = 30 * 24 * time.Hour
)

func (w *weaknesses) keys(a policy.Authority) {
	for _, k := range a.Keys {
		if public, ok := k.Public.(*rsa.PublicKey); ok && public.N.BitLen() < minRSABits {
			w.add("key %s is RSA with %d bits; use %d or more, or ECDSA", k.Source, public.N.BitLen(), minRSABits)
		}
	}
}

func (w *weaknesses) identities(a policy.Authority) {
	for i := range a.Identities {
		for _, weakness := range checkIdentity(&a.Identities[i]) {
			w.add("authority %q: %s", a.Name, weakness)
		}
	}
}

func (w *weaknesses) pki(a policy.Authority) {
	if a.PKI == nil {
		return
	}
	if broad(a.PKI.Subject) {
		w.add("authority %q: subject %s admits everybody the PKI ever issued a certificate to", a.Name, a.PKI.Subject)
	}
	if a.PKI.RequireTimestamp { // a timestamp outlives the root
		return
	}

	for _, c := range a.PKI.Roots {
		if time.Until(c.NotAfter) < soonOver {
			w.add(
				"authority %q: the root %q ends on %s, and with time: current all it signed with it",
				a.Name,
				c.Subject.CommonName,
				c.NotAfter.Format(time.DateOnly),
			)
		}
	}
}

// checkIdentity says what is weak in an identity.
func checkIdentity(i *policy.Identity) []string {
	var list []string
	if broad(i.Issuer) {
		list = append(list, fmt.Sprintf("issuer %s admits identity providers that anybody can run", i.Issuer))
	}

	if i.GitHub != nil {
		if i.GitHub.Workflow == "" {
			const all = "github: names no workflow: every workflow of the %s may sign, pull request builds included"
			list = append(list, fmt.Sprintf(all, ownerOrRepository(i.GitHub)))
		}
		return list
	}

	for _, c := range i.Claims {
		if !broad(c) { // one narrow claim is enough
			return list
		}
	}

	switch {
	case i.Subject.IsZero() || broad(i.Subject):
		list = append(list, fmt.Sprintf("identity %s admits everybody with an account at the issuer", i))
	case i.Subject.IsExpression() && loose(i.Subject):
		const anyHost = "subject %s matches addresses on any host: write the host out, with \\. for its dots"
		list = append(list, fmt.Sprintf(anyHost, i.Subject))
	}
	return list
}

func ownerOrRepository(g *policy.GitHub) string {
	if g.Repository != "" {
		return "repository"
	}
	return "owner's repositories"
}

// broad reports whether a pattern matches texts that cannot have been meant
// together.
func broad(p policy.Pattern) bool {
	return p.IsExpression() && p.Match("https://evil.example/x/.github/workflows/y.yml@refs/heads/z") &&
		p.Match("someone@evil.example")
}

// loose reports whether a pattern leaves the host to the signer.
func loose(p policy.Pattern) bool {
	return p.Match("https://evil.example/acme/app/.github/workflows/release.yml@refs/heads/main") ||
		p.Match("someone@evil.example")
}
