package upstream

import (
	"errors"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// realms says which hosts' token realms may see one registry's credentials.
type realms struct {
	base   *url.URL
	listed []string // host or host:port, from the configuration
}

// allow reports whether the credentials may be shown to a token realm: the
// registry's own host, its registrable domain, or a host from the
// configuration. A registry's challenge alone sends them nowhere
// (CVE-2026-33540).
func (r realms) allow(realm *url.URL) bool {
	if realm.Scheme != "https" && realm.Scheme != r.base.Scheme {
		return false
	}

	host, own := strings.ToLower(realm.Hostname()), strings.ToLower(r.base.Hostname())
	if host == own {
		return true
	}

	if slices.ContainsFunc(r.listed, func(listed string) bool {
		return strings.EqualFold(listed, host) || strings.EqualFold(listed, realm.Host)
	}) {
		return true
	}

	a, errHost := registrableDomain(host)
	b, errOwn := registrableDomain(own)

	return errHost == nil && errOwn == nil && a == b
}

// sharedDomains are domains on which every customer or tenant has a name of
// their own, though the public suffix list does not say so (CVE-2025-27403).
// The last ones are domains of private networks, such as a cluster's.
var sharedDomains = []string{
	"azurecr.io",
	"azurecr.cn",
	"azurecr.us",
	"jfrog.io",
	"cloudsmith.io",
	"amazonaws.com",
	"amazonaws.com.cn",
	"amazonaws.eu",
	"on.aws",
	"on.amazonwebservices.com.cn",
	"pkg.dev",
	"cr.aliyuncs.com",
	"myhuaweicloud.com",
	"tencentcloudcr.com",
	"ocir.io",
	"scw.cloud",
	"local",
	"internal",
	"lan",
	"intranet",
	"corp",
	"home",
	"private",
	"home.arpa",
}

// registrableDomain is the part of host that one owner registered below a
// public suffix. On a shared domain there is none.
func registrableDomain(host string) (string, error) {
	for _, s := range sharedDomains {
		if strings.HasSuffix(host, "."+s) {
			return "", errors.New("a domain of many owners")
		}
	}

	return publicsuffix.EffectiveTLDPlusOne(host)
}
