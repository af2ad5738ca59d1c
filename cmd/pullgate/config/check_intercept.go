package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pullgate/pullgate/policy"
)

// intercept checks what is said about interception, apart from what files hold.
func (k *checks) intercept() {
	i := k.Intercept
	for key, address := range map[string]string{"listen": i.Listen, "tlsListen": i.TLSListen} {
		if address != "" {
			k.address("intercept."+key, address)
		}
	}

	switch {
	case i.On() && (i.CACertFile == "" || i.CAKeyFile == ""):
		k.add("intercept", "intercept needs caCertFile and caKeyFile: the authority by which nodes trust it; "+
			"`pullgate ca` makes one")
	case !i.On() && (i.CACertFile != "" || i.CAKeyFile != "" || len(i.Tunnel) > 0):
		k.add("intercept", "intercept has no effect: set intercept.listen or intercept.tlsListen")
	}

	switch {
	case !k.Clients.Identifies():
	case i.TLSListen != "":
		k.add("intercept.tlsListen", "intercept.tlsListen does not go with clients.auth: a client that believes it "+
			"speaks to a registry shows the gate no name; use intercept.listen")
	case i.Listen != "" && !k.Clients.Takes(Basic) && !k.Clients.Takes(OIDC):
		k.add("intercept.listen", "intercept.listen needs basic or oidc in clients.auth: a proxy is shown a password "+
			"or a token, and no certificate")
	}
	if k.exposesProxy() {
		k.add("intercept.listen", "intercept.listen would be shown passwords over plain http: let it listen on "+
			"loopback, or name the proxy that ends TLS in clients.trustedProxies")
	}
}

// exposesProxy reports whether clients would send the proxy their passwords for
// others to read.
func (k *checks) exposesProxy() bool {
	return k.Intercept.Listen != "" && (k.Clients.Takes(Basic) || k.Clients.Takes(OIDC)) &&
		!IsLoopback(k.Intercept.Listen) && len(k.Clients.TrustedProxies) == 0
}

// hubAPI are the names by which clients ask Docker Hub. No client asks docker.io.
var hubAPI = []string{"registry-1.docker.io", "index.docker.io"}

// InterceptedNames are the names, without ports, by which clients ask an upstream;
// what follows the * of a wildcard stands for all that it stands for. An error says
// why a certificate authority for them would be good for too much.
func (u Upstream) InterceptedNames() ([]string, error) {
	host := policy.FamiliarHost(u.Host)
	if host == "docker.io" {
		return hubAPI, nil
	}

	bare, _ := policy.SplitPort(host)
	if !u.IsWildcard() {
		if strings.HasPrefix(bare, "[") || strings.Trim(bare, "0123456789.") == "" {
			return nil, errors.New("it is an address, and nodes take certificates for names alone")
		}
		return []string{bare}, nil
	}
	below, found := strings.CutPrefix(bare, "*.")
	if !found || strings.Contains(below, "*") {
		pattern, err := policy.ParseHostPattern(u.Host)
		if err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("a certificate authority for it would be good for all of %s: write its hosts out as "+
			"entries of their own", pattern.Suffix())
	}
	return []string{below}, nil
}
