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

// isAt compares an address with a public one.
func isAt(address, public string) bool { return strings.TrimSuffix(address, "/") == public }

// hostOf names a trust root after an address.
func hostOf(address string) string {
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		return u.Hostname()
	}
	return address
}

// noPrefix is for signatures under other tags than cosign's.
func noPrefix() func(value) {
	return refused("signatures are looked for under cosign's own tags alone: sign without a prefix")
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

func sha256Only(v value) {
	if v.text() != "sha256" && v.text() != "" {
		v.refuse("signatures by keys are verified with sha256")
	}
}

// exactly compares as a text does. pullgate refuses * in a text, which could be
// taken for a wildcard, so that such a text becomes an expression.
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

// identityForm is how a format writes the identity behind a keyless signature.
// All have issuer and subject, which are texts.
type identityForm struct {
	plain         func(string) (text, expression string) // carries a text
	issuerRegExp  string                                 // the field for an expression; "": there is none
	subjectRegExp string
	more          fields // the format's own
}

// identities reads a list of identities as most formats write them.
func (v value) identities() []identity {
	form := identityForm{
		plain:         exactly,
		issuerRegExp:  "issuerRegExp",
		subjectRegExp: "subjectRegExp",
	}
	var all []identity
	for _, e := range v.list() {
		if id, ok := e.identity(form); ok {
			all = append(all, id)
		}
	}
	return all
}

// identity reads one identity; false means that a problem was reported.
func (v value) identity(form identityForm) (identity, bool) {
	var id identity
	before := len(v.r.problems)
	known := fields{
		"issuer":           func(f value) { id.issuer, id.issuerRegExp = form.plain(f.text()) },
		"subject":          func(f value) { id.subject, id.subjectRegExp = form.plain(f.text()) },
		form.subjectRegExp: func(f value) { id.subjectRegExp = f.expression() },
	}
	if form.issuerRegExp != "" {
		known[form.issuerRegExp] = func(f value) { id.issuerRegExp = f.expression() }
	}

	given := map[string]bool{}
	for name, read := range known {
		kind := strings.TrimSuffix(strings.TrimSuffix(name, "RegExp"), "Regex")
		known[name] = onceOf(kind, given, read)
	}
	for name, read := range form.more {
		known[name] = read
	}
	v.object(known)

	switch {
	case len(v.r.problems) > before:
	case !given["issuer"]:
		v.refuse("has no issuer: anyone can run an identity provider that names any subject; add it")
	case !given["subject"]:
		v.refuse("has no subject: anyone with an account at the issuer could sign; add it")
	default:
		return id, true
	}
	return identity{}, false
}

// onceOf reads a field of which there is a text and an expression, one of which
// may be given. An empty one is as if it were not there.
func onceOf(kind string, given map[string]bool, read func(value)) func(value) {
	return func(f value) {
		if f.Node.Value == "" && f.Node.Kind == yaml.ScalarNode {
			return
		}

		if given[kind] {
			f.refuse("%s is there as text and as a regular expression: remove one", kind)
			return
		}
		given[kind] = true
		read(f)
	}
}
