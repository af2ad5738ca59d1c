package sigs

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
)

// namesOf are the leaf's names that may be compared with a policy's subject. The
// comparison sees text and not what kind of name it was, while name constraints
// bind each kind by itself: an authority limited to some addresses could write
// anybody's as a name of another kind. So of what a limited one issued, only
// names of the kinds it was limited in count.
func namesOf(leaf *x509.Certificate, others []*x509.Certificate) []string {
	dns, email, ip, uri, all := true, true, true, true, true
	for _, c := range above(leaf, others) {
		limits := [...]int{
			len(c.PermittedDNSDomains) + len(c.ExcludedDNSDomains),
			len(c.PermittedEmailAddresses) + len(c.ExcludedEmailAddresses),
			len(c.PermittedIPRanges) + len(c.ExcludedIPRanges),
			len(c.PermittedURIDomains) + len(c.ExcludedURIDomains),
		}
		if limits == [4]int{} {
			continue
		}
		dns, email, ip, uri, all = dns &&
			limits[0] > 0, email &&
			limits[1] > 0, ip &&
			limits[2] > 0, uri &&
			limits[3] > 0, false
	}
	if all { // other names, too
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

// above lists those of others that may lead from leaf to a root, by their names.
func above(leaf *x509.Certificate, others []*x509.Certificate) []*x509.Certificate {
	var list []*x509.Certificate
	seen := map[string]bool{}
	for names := [][]byte{leaf.RawIssuer}; len(names) > 0; names = names[1:] {
		if seen[string(names[0])] {
			continue
		}
		seen[string(names[0])] = true
		for _, c := range others {
			if bytes.Equal(c.RawSubject, names[0]) {
				list, names = append(list, c), append(names, c.RawIssuer)
			}
		}
	}
	return list
}

// unlike says that none of the leaf's names is the one a policy trusts.
func unlike(leaf *x509.Certificate, counted []string, want fmt.Stringer) error {
	all := cryptoutils.GetSubjectAlternateNames(leaf)
	text := strings.Join(all, ", ")
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
