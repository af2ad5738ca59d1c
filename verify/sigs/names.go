package sigs

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"github.com/sigstore/sigstore/pkg/cryptoutils"

	"github.com/pullgate/pullgate/policy"
)

// namesOf are the leaf's names that may be compared with a policy's subject. The
// comparison sees text and not what kind of name it was, while name constraints
// bind each kind by itself: an authority limited to some addresses could write
// any other address as a name of another kind. So of what a limited authority
// issued, only names of the kinds it is limited in count. A policy that asks for
// an e-mail name is compared with these alone.
func namesOf(leaf *x509.Certificate, others []*x509.Certificate, pki *policy.Certificate) []string {
	limited := false
	dns, email, ip, uri := true, true, true, true
	for _, c := range above(leaf, others) {
		onDNS := len(c.PermittedDNSDomains)+len(c.ExcludedDNSDomains) > 0
		onEmail := len(c.PermittedEmailAddresses)+len(c.ExcludedEmailAddresses) > 0
		onIP := len(c.PermittedIPRanges)+len(c.ExcludedIPRanges) > 0
		onURI := len(c.PermittedURIDomains)+len(c.ExcludedURIDomains) > 0
		if !onDNS && !onEmail && !onIP && !onURI {
			continue
		}

		limited = true
		dns, email, ip, uri = dns && onDNS, email && onEmail, ip && onIP, uri && onURI
	}
	switch {
	case pki.SubjectEmail && !email:
		return nil
	case pki.SubjectEmail:
		return leaf.EmailAddresses
	case !limited: // other names, too
		return cryptoutils.GetSubjectAlternateNames(leaf)
	}

	var list []string
	if dns {
		list = append(list, leaf.DNSNames...)
	}
	if email {
		list = append(list, leaf.EmailAddresses...)
	}
	if ip {
		for _, one := range leaf.IPAddresses {
			list = append(list, one.String())
		}
	}
	if uri {
		for _, one := range leaf.URIs {
			list = append(list, one.String())
		}
	}
	return list
}

// unlike says that none of the leaf's names is the one a policy trusts.
func unlike(leaf *x509.Certificate, counted []string, pki *policy.Certificate) error {
	all := cryptoutils.GetSubjectAlternateNames(leaf)
	text, want := strings.Join(all, ", "), pki.Subject

	if pki.SubjectEmail {
		return fmt.Errorf("its certificate is for %.150q, not the e-mail name %s", text, want)
	}

	for _, name := range all {
		if !slices.Contains(counted, name) {
			return fmt.Errorf(
				"its certificate is for %.150q, not %s; of an authority with name constraints, only names of the "+
					"kinds it constrains count",
				text,
				want,
			)
		}
	}

	return fmt.Errorf("its certificate is for %.150q, not %s", text, want)
}
