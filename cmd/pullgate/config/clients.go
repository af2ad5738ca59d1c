package config

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/pullgate/pullgate/policy"
)

// The values of clients.auth. The last three are ways to show a name, any of which
// may be listed.
const (
	NoAuth    = "none"
	Anonymous = "anonymous"
	Basic     = "basic"
	MTLS      = "mtls"
	OIDC      = "oidc"
)

// Ways is how clients say who they are: one of none and anonymous, or a list.
type Ways []string

// UnmarshalText reads a single value, or the environment's list with commas.
func (w *Ways) UnmarshalText(text []byte) error {
	*w = nil
	for way := range strings.SplitSeq(string(text), ",") {
		*w = append(*w, strings.TrimSpace(way))
	}
	return nil
}

// Clients says who may pull, and what those read who are refused.
type Clients struct {
	Auth           Ways     `mapstructure:"auth"`
	HtpasswdFile   string   `mapstructure:"htpasswdFile"`
	OIDC           Issuer   `mapstructure:"oidc"`
	TrustedProxies []string `mapstructure:"trustedProxies"` // networks that may name a client's address
	ProxyProtocol  bool     `mapstructure:"proxyProtocol"`  // and do so by the PROXY protocol
	Help           string   `mapstructure:"help"`           // after every refusal
}

// Issuer is whose tokens clients may show.
type Issuer struct {
	Issuer   string `mapstructure:"issuer"`
	Audience string `mapstructure:"audience"`
	JWKSFile string `mapstructure:"jwksFile"` // its keys; empty: they are fetched from it
	CAFile   string `mapstructure:"caFile"`   // of the issuer, instead of the system's roots
}

// Takes reports whether clients may say who they are in that way.
func (c *Clients) Takes(way string) bool { return slices.Contains(c.Auth, way) }

// Identifies reports whether clients have to say who they are.
func (c *Clients) Identifies() bool { return c.Takes(Basic) || c.Takes(MTLS) || c.Takes(OIDC) }

// Proxies are the networks of trustedProxies; what is none has been reported by
// check.
func (c *Clients) Proxies() []netip.Prefix {
	var list []netip.Prefix
	for _, text := range c.TrustedProxies {
		if network, err := policy.ParseNetwork(text); err == nil {
			list = append(list, network)
		}
	}
	return list
}

// maxAudience bounds issuer and audience, in bytes.
const maxAudience = 512

func (k *checks) clients() {
	c := &k.Clients
	k.ways()
	k.passwords()
	k.certificates()
	k.tokens()
	k.proxies()

	if help := c.Help; len(help) > maxHelp || !isPrintable(help) {
		k.add("clients.help", "clients.help must be one line of at most %d bytes, without control characters", maxHelp)
	}
}

// ways checks the list itself.
func (k *checks) ways() {
	auth := k.Clients.Auth
	const must = "it must be none, anonymous, or a list of basic, mtls and oidc"
	if len(auth) == 0 {
		k.add("clients.auth", "clients.auth is empty; %s", must)
	}

	for i, way := range auth {
		switch {
		case !slices.Contains([]string{NoAuth, Anonymous, Basic, MTLS, OIDC}, way):
			k.add("clients.auth", "clients.auth is %.100q; %s", way, must)
		case slices.Index(auth, way) < i:
			k.add("clients.auth", "clients.auth lists %s twice", way)
		case len(auth) > 1 && (way == NoAuth || way == Anonymous):
			k.add("clients.auth", "clients.auth lists %s beside others: every client would be let in; %s", way, must)
		}
	}
}

// passwords checks what basic needs, and where passwords would be seen.
func (k *checks) passwords() {
	c := &k.Clients
	switch {
	case c.Takes(Basic) && c.HtpasswdFile == "":
		k.add("clients.auth", "clients.auth: basic needs clients.htpasswdFile: users as `htpasswd -B` writes them")
	case !c.Takes(Basic) && c.HtpasswdFile != "":
		k.add("clients.htpasswdFile", "clients.htpasswdFile has no effect: clients.auth does not list basic")
	}

	shown := map[string]bool{Basic: c.Takes(Basic), OIDC: c.Takes(OIDC), passthrough: k.passesThrough()}
	for _, way := range []string{Basic, OIDC, passthrough} {
		if shown[way] && k.TLS.CertFile == "" && !IsLoopback(k.Listen) && len(c.TrustedProxies) == 0 {
			k.add(
				"clients.auth",
				"clients.auth: %s would send secrets over plain http: set tls, listen on loopback, or "+
					"name the proxy that ends TLS in clients.trustedProxies",
				way,
			)
			break
		}
	}
	if shown[passthrough] && (shown[Basic] || shown[OIDC]) {
		k.add("clients.auth", "clients.auth: basic and oidc do not go with an upstream of auth type passthrough: "+
			"clients have one password to show, and it is the registry's; use mtls")
	}
}

// passesThrough reports whether clients show the gate what is for a registry.
func (k *checks) passesThrough() bool {
	return slices.ContainsFunc(k.Upstreams, func(u Upstream) bool { return u.Auth.Type == passthrough })
}

// certificates checks what mtls needs.
func (k *checks) certificates() {
	if (k.TLS.CertFile == "") != (k.TLS.KeyFile == "") {
		k.add("tls", "tls needs both certFile and keyFile")
	}

	switch mtls := k.Clients.Takes(MTLS); {
	case mtls && k.TLS.CertFile == "":
		k.add("clients.auth", "clients.auth: mtls needs tls.certFile and tls.keyFile: certificates are shown over TLS")
	case mtls && k.TLS.ClientCAFile == "":
		k.add("clients.auth", "clients.auth: mtls needs tls.clientCAFile: who issues the clients' certificates")
	case !mtls && k.TLS.ClientCAFile != "":
		k.add("tls.clientCAFile", "tls.clientCAFile has no effect: clients.auth does not list mtls")
	}
}

// tokens checks what oidc needs.
func (k *checks) tokens() {
	o := k.Clients.OIDC
	if !k.Clients.Takes(OIDC) {
		if o != (Issuer{}) {
			k.add("clients.oidc", "clients.oidc has no effect: clients.auth does not list oidc")
		}
		return
	}

	u, err := url.Parse(o.Issuer)
	switch {
	case o.Issuer == "":
		k.add("clients.auth", "clients.auth: oidc needs clients.oidc.issuer: the iss claim of the tokens")
	case len(o.Issuer) > maxAudience || !isPrintable(o.Issuer):
		k.add("clients.oidc.issuer", "clients.oidc.issuer must be at most %d printable bytes", maxAudience)
	case o.JWKSFile != "": // nothing is asked of it
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "",
		u.Scheme != "https" && !(u.Scheme == "http" && IsLoopback(withAnyPort(u))):
		k.add(
			"clients.oidc.issuer",
			"clients.oidc.issuer must be an https:// address, without user, query and fragment, "+
				"unless clients.oidc.jwksFile holds its keys",
		)
	}
	if o.Audience == "" || len(o.Audience) > maxAudience || !isPrintable(o.Audience) {
		k.add("clients.auth", "clients.auth: oidc needs clients.oidc.audience: the aud claim of tokens for this gate, "+
			"at most %d printable bytes", maxAudience)
	}
	if o.JWKSFile != "" && o.CAFile != "" {
		k.add("clients.oidc.caFile", "clients.oidc.caFile has no effect with jwksFile: the issuer is not asked")
	}
}

// withAnyPort is a URL's host with a port.
func withAnyPort(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	return u.Host + ":80"
}

// proxies checks who may name a client's address.
func (k *checks) proxies() {
	c := &k.Clients
	for _, text := range c.TrustedProxies {
		network, err := policy.ParseNetwork(text)
		switch {
		case err != nil:
			k.add("clients.trustedProxies", "clients.trustedProxies: %v", err)
		case network.Bits() == 0:
			k.add(
				"clients.trustedProxies",
				"clients.trustedProxies: %s is everybody: any client could take any address",
				text,
			)
		}
	}
	if c.ProxyProtocol && len(c.TrustedProxies) == 0 {
		k.add(
			"clients.proxyProtocol",
			"clients.proxyProtocol needs clients.trustedProxies: the addresses it is taken from",
		)
	}
}
