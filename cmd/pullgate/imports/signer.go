package imports

import (
	"net/url"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/policy"
)

// The addresses of Sigstore's public instance, whose root is pullgate's default.
const (
	publicRekor  = "https://rekor.sigstore.dev"
	publicFulcio = "https://fulcio.sigstore.dev"
)

// makeRoot says how a trust root is made that a source spread over its fields.
const makeRoot = "make this file: cosign trusted-root create, with --fulcio, --rekor, --ctfe and --tsa for each " +
	"the source names; until it is there nothing is admitted by it"

// isAt compares an address with a public one.
func isAt(address, public string) bool { return strings.TrimSuffix(address, "/") == public }

// hostOf names a trust root after an address.
func hostOf(address string) string {
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		return u.Hostname()
	}
	return address
}

// publicKey checks a PEM public key.
func (v value) publicKey() (string, bool) {
	text := strings.TrimSpace(v.text()) + "\n"
	if _, err := policy.ParseKey([]byte(text)); err != nil {
		v.refuse("%v", err)
		return "", false
	}
	return text, true
}

// keyService carries a reference to a key management service.
func (v value) keyService() (string, bool) {
	reference := v.text()
	scheme, _, ok := strings.Cut(reference, "://")
	switch {
	case ok && (scheme == "awskms" || scheme == "gcpkms" || scheme == "azurekms" || scheme == "hashivault"):
		return reference, true
	case ok && scheme == "k8s":
		v.refuse(
			"a cluster's secret cannot be read: export its public key (kubectl get secret …) and write it here as " +
				"PEM text",
		)
	default:
		v.refuse(
			"%.80q is no key service that pullgate knows (awskms, gcpkms, azurekms, hashivault): write the public "+
				"key as PEM text",
			reference,
		)
	}
	return "", false
}

// exactly compares as a text does; pullgate refuses * in one, so that nobody
// takes it for a wildcard.
func exactly(s string) (text, expression string) {
	if strings.Contains(s, "*") {
		return "", regexp.QuoteMeta(s)
	}
	return s, ""
}

// matching carries a text in which * and ? are wildcards.
func matching(s string) (text, expression string) {
	expression, plain := wildcards(s)
	if plain {
		return s, ""
	}
	return "", expression
}

// expression carries a regular expression that matched anywhere in a text.
func (v value) expression() string {
	text, err := anchored(v.text())
	if err == nil {
		_, err = policy.ParsePattern(text)
	}
	if err != nil {
		v.refuse("%v", err)
	}
	return text
}

// who reads one identity of issuer and subject, the fields that all formats
// with keyless signatures have; more are a format's own. plain carries a text.
func (v value) who(plain func(string) (text, expression string), regexps [2]string, more fields) (identity, bool) {
	var id identity
	before := len(v.r.problems)
	known := fields{
		"issuer": func(f value) {
			id.issuer, id.issuerRegExp = plain(f.text())
		},
		"subject": func(f value) {
			id.subject, id.subjectRegExp = plain(f.text())
		},
	}
	if regexps[0] != "" {
		known[regexps[0]] = func(f value) { id.issuerRegExp = f.expression() }
	}
	known[regexps[1]] = func(f value) { id.subjectRegExp = f.expression() }
	given := map[string]bool{}
	for name, read := range known {
		known[name] = func(f value) {
			if f.node.Value == "" && f.node.Kind == yaml.ScalarNode {
				return // as if it were not there
			}
			kind := strings.TrimSuffix(strings.TrimSuffix(name, "RegExp"), "Regex")
			if given[kind] {
				f.refuse("%s is there as text and as a regular expression: remove one", kind)
				return
			}
			given[kind] = true
			read(f)
		}
	}
	for name, read := range more {
		known[name] = read
	}
	v.object(known)
	switch {
	case len(v.r.problems) > before:
	case !given["issuer"]:
		v.refuse("has no issuer: anybody can run an identity provider that names any subject; add it")
	case !given["subject"]:
		v.refuse("has no subject: everybody with an account at the issuer could sign; add it")
	default:
		return id, true
	}
	return identity{}, false
}
