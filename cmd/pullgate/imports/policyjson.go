package imports

import (
	"encoding/base64"
	"slices"
	"strings"

	"github.com/pullgate/pullgate/policy"
)

// readPolicyJSON reads containers-policy.json(5), by which Podman, Buildah,
// Skopeo and CRI-O decide: the most specific scope decides, and all of its
// requirements must hold.
func readPolicyJSON(r *report, files []File) []native {
	var rules []rule
	var last *rule
	for _, f := range files {
		for _, doc := range r.documents(f) {
			given := false
			doc.object(fields{
				"default": func(v value) {
					given = true
					if last != nil {
						v.refuse("a second default: import one policy.json at a time")
					}
					a := readRequirements(r, v, "everything else")
					a.places = []place{everywhere(v)}
					last = &a
				},
				"transports": func(v value) {
					v.each(func(transport string, scopes value) {
						if transport != "docker" {
							scopes.lose("transport %s is no registry's: pullgate sees no pull by it", transport)
							return
						}
						scopes.each(func(scope string, v value) {
							a := readRequirements(r, v, scope)
							if scope == "" {
								a.name = "docker"
								a.places = []place{everywhere(v)}
							} else {
								r.notes = &a.notes
								a.places = v.scope(scope)
								r.notes = nil
							}
							rules = append(rules, a)
						})
					})
				},
			})
			if !given {
				doc.refuse("has no default: containers-policy.json(5) demands one")
			}
			doc.lose(
				"signatures on a lookaside server (containers-registries.d) are not seen, only those in the " +
					"registry; use-sigstore-attachments need not be set",
			)
		}
	}
	if last != nil && !slices.ContainsFunc(rules, func(a rule) bool { return a.name == "docker" }) {
		rules = append(rules, *last)
	} else if last != nil {
		last.lose("the docker transport has a default of its own: this one decides about no pull")
	}
	// The more specific scope first: a digest, then the longer name.
	specific := func(a rule) int {
		if len(a.places) == 0 {
			return 0 // refused
		}
		n := len(strings.Trim(a.places[0].glob.String(), "/*"))
		if a.places[0].digest != "" {
			n += 1000
		}
		return n
	}
	slices.SortStableFunc(rules, func(a, b rule) int { return specific(b) - specific(a) })
	var policies []native
	for _, a := range rules {
		p := together([]rule{a})
		p.places = a.places
		policies = append(policies, p)
	}
	return policies
}

func everywhere(v value) place {
	all, err := policy.ParseGlob("**")
	if err != nil {
		v.refuse("%v", err)
	}
	return place{value: v, glob: all, any: true}
}

// scope translates a scope of the docker transport: a host, hosts below a
// domain, a namespace, a repository or a digest. What matches nothing there, and
// would match something here, is refused.
func (v value) scope(scope string) []place {
	name, digest, hasDigest := strings.Cut(scope, "@")
	host, path, hasPath := strings.Cut(name, "/")
	domain, below := strings.CutPrefix(host, "*.")
	switch {
	case strings.Contains(path, ":"):
		v.refuse(
			"scope %q is one tag: pullgate's policies never see tags, runtimes ask by digest as well; write the "+
				"repository",
			scope,
		)
		return nil
	case hasDigest && !isDigest(digest):
		v.refuse("scope %q: %q is no digest: write sha256: and 64 hex digits", scope, digest)
		return nil
	case strings.Contains(domain+path, "*") || below && (hasPath || strings.Contains(domain, ":")):
		v.refuse(
			"scope %q matches nothing: * stands for the beginning of a host alone, as in *.example.com, whatever "+
				"the port",
			scope,
		)
		return nil
	case policy.FamiliarHost(host) != host:
		v.refuse("scope %q matches nothing: write %s", scope, policy.FamiliarHost(host)+strings.TrimPrefix(scope, host))
		return nil
	}
	var globs []string
	hub := host == "docker.io" && hasPath && !strings.Contains(path, "/")
	switch {
	case hub && hasDigest:
		v.refuse("scope %q matches nothing: write docker.io/library/%s@%s", scope, path, digest)
		return nil
	case hasDigest:
		globs = []string{name}
	case below:
		globs = []string{host + "/**", host + ":*/**"} // whatever the port
	case !hasPath, hub:
		globs = []string{name + "/**"} // Docker Hub's repositories have two parts
	default:
		globs = []string{name, name + "/**"}
	}
	var all []place
	for _, text := range globs {
		g, err := policy.ParseGlob(text)
		if err != nil {
			v.refuse("scope %q: %v", scope, err)
			return nil
		}
		all = append(all, place{
			value:  v,
			glob:   g,
			digest: digest,
			any:    true,
		})
	}
	return all
}

// readRequirements reads the requirements of one scope, all of which must hold.
func readRequirements(r *report, v value, scope string) rule {
	a := rule{value: v, name: scope, static: policy.Allow}
	r.notes = &a.notes
	defer func() { r.notes = nil }()
	all := v.list()
	if len(all) == 0 {
		v.refuse("is empty: write a requirement, reject or insecureAcceptAnything")
	}
	for _, e := range all {
		kind := ""
		for i := 0; i+1 < len(e.node.Content); i += 2 {
			if e.node.Content[i].Value == "type" {
				kind = e.node.Content[i+1].Value
			}
		}
		carried := func(value) {}
		switch kind {
		case "insecureAcceptAnything":
			e.object(fields{"type": carried})
		case "reject":
			e.object(fields{"type": carried})
			a.static = policy.Deny
		case "sigstoreSigned":
			a.needs = append(a.needs, readSigstoreSigned(e, scope))
			if a.static == policy.Allow {
				a.static = policy.Verify
			}
		case "signedBy":
			e.refuse(
				"signatures by GPG keys (simple signing) are not verified: sign with cosign, and write sigstoreSigned",
			)
		default:
			e.refuse("type %.40q is not known: sigstoreSigned, insecureAcceptAnything or reject", kind)
		}
	}
	return a
}

func readSigstoreSigned(v value, scope string) need {
	var a authority
	kinds := 0
	var rekor, fulcio, identitySaid bool
	var of []string // what the trust root is made of
	key := func(f value) {
		if _, err := base64.StdEncoding.DecodeString(f.text()); err != nil {
			f.refuse("is no base64: %v", err)
			return
		}
		pem, _ := base64.StdEncoding.DecodeString(f.text())
		if _, err := policy.ParseKey(pem); err != nil {
			f.refuse("the key %v", err)
			return
		}
		a.keys = append(a.keys, strings.TrimSpace(string(pem))+"\n")
	}
	path := func(f value) string {
		if !strings.HasPrefix(f.text(), "/") {
			f.lose("a relative path is relative to the policy file here")
		}
		return f.text()
	}
	log := func(f value) {
		rekor = true
		of = append(of, f.words())
		f.lose("the log's key has to be put into a trust root: see trustRoots")
	}
	v.object(fields{
		"type":    func(value) {},
		"keyPath": func(f value) { kinds++; a.keys = append(a.keys, path(f)) },
		"keyPaths": func(f value) {
			kinds++
			for _, e := range f.list() {
				a.keys = append(a.keys, path(e))
			}
		},
		"keyData": func(f value) { kinds++; key(f) },
		"keyDatas": func(f value) {
			kinds++
			for _, e := range f.list() {
				key(e)
			}
		},
		"fulcio": func(f value) {
			kinds++
			fulcio = true
			var id identity
			ca := func(u value) {
				of = append(of, u.words())
				u.lose("the CA's certificate has to be put into a trust root: see trustRoots")
			}
			f.object(fields{
				"caPath":       ca,
				"caData":       ca,
				"oidcIssuer":   func(u value) { id.issuer, id.issuerRegExp = exactly(u.text()) },
				"subjectEmail": func(u value) { id.subject, id.subjectRegExp = exactly(u.text()) },
			})
			if id.issuer+id.issuerRegExp == "" || id.subject+id.subjectRegExp == "" {
				f.refuse("must have oidcIssuer and subjectEmail")
			}
			a.identities = []identity{id}
		},
		"pki": func(f value) {
			kinds++
			a.pki = &pki{}
			data := refused("certificates are read from files: write them into one, and its name as Path")
			subject := func(u value) {
				if a.pki.subject != "" {
					u.refuse("a certificate's subject is one name here: write subjectEmail or subjectHostname")
				}
				a.pki.subject = u.text()
			}
			f.object(fields{
				"caRootsPath":         func(u value) { a.pki.roots = path(u) },
				"caRootsData":         data,
				"caIntermediatesPath": func(u value) { a.pki.intermediates = path(u) },
				"caIntermediatesData": data,
				"subjectEmail":        subject,
				"subjectHostname":     subject,
			})
			if a.pki.subject == "" || a.pki.roots == "" {
				f.refuse("must have caRootsPath, and subjectEmail or subjectHostname")
			}
		},
		"rekorPublicKeyPath":  log,
		"rekorPublicKeyPaths": log,
		"rekorPublicKeyData":  log,
		"rekorPublicKeyDatas": log,
		"signedIdentity": func(f value) {
			identitySaid = true
			f.object(fields{
				"type":             func(value) {},
				"dockerReference":  func(value) {},
				"dockerRepository": func(value) {},
				"prefix":           func(value) {},
				"signedPrefix":     func(value) {},
			})
			f.lose(
				"WEAKER: the name in a signature is not compared; a signature for the same bytes counts, whatever " +
					"repository it was made for",
			)
		},
	})
	if kinds != 1 {
		v.refuse("must have exactly one of keyPath, keyPaths, keyData, keyDatas, fulcio and pki")
	}
	if !identitySaid {
		v.lose(
			"WEAKER: the name in a signature is not compared (matchRepoDigestOrExact there); a signature for the " +
				"same bytes counts, whatever repository it was made for",
		)
	}
	if fulcio && !rekor {
		v.refuse("fulcio demands a rekorPublicKey: containers-policy.json(5) says so")
	}
	if rekor || fulcio {
		slices.Sort(of)
		root := v.r.trust("policy-json-"+scope, scope+"\n"+strings.Join(of, ""), makeRoot)
		a.log = true
		if fulcio {
			a.roots = []string{root}
		} else {
			a.root = root
		}
	}
	return need{count: 1, who: []authority{a}}
}
