package imports

import (
	"fmt"
	"strings"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/policy/foreign"
)

// writeCEL is what to do about conditions in another language.
const writeCEL = "CUE and Rego cannot be carried: take it out, import, and write the condition as cel: under " +
	"attestations (docs/policies.md)"

// readClusterImagePolicies reads sigstore policy-controller's policies: an
// image must satisfy every policy that matches it, by any of its authorities.
func readClusterImagePolicies(r *report, files []File) []rule {
	objects := r.objects(files)
	r.documented = map[string]bool{}
	for _, o := range objects {
		if o.isTrustRoot() {
			r.documented[o.name] = true
		}
	}

	var rules []rule
	for _, o := range objects {
		_, version, _ := strings.Cut(o.version, "/")

		switch {
		case o.isTrustRoot():
			o.lose(
				"TrustRoot %q is not read: the output names a file where a policy refers to it%s",
				o.name,
				o.mirrored(),
			)
		case o.isForeign(foreign.ClusterImagePolicy):
		case version != "v1alpha1" && version != "v1beta1":
			o.refuse("version %q is not known: v1alpha1 or v1beta1", version)
		default:
			rules = append(rules, readClusterImagePolicy(r, o))
		}
	}
	return rules
}

func (o kubernetes) isTrustRoot() bool {
	return strings.HasPrefix(o.version, "policy.sigstore.dev/") && o.kind == "TrustRoot"
}

// mirrored says where a TrustRoot is kept up to date, if it is.
func (o kubernetes) mirrored() string {
	for _, spec := range o.Fields() {
		for _, f := range (value{spec.Value, o.r}).Fields() {
			mirror := value{f.Value, o.r}.peek("mirror")
			if spec.Name == "spec" && f.Name == "remote" && mirror != "" {
				return fmt.Sprintf(
					"; its mirror can be written as tuf: {mirror: %s, root: FILE} in place of file",
					mirror,
				)
			}
		}
	}
	return ""
}

func readClusterImagePolicy(r *report, o kubernetes) rule {
	a := rule{value: o.value, name: o.name}
	r.notes = &a.notes
	defer func() { r.notes = nil }()

	var authorities []cipAuthority
	var match *value
	o.read(func(spec value) {
		spec.object(fields{
			"images": func(v value) {
				v.items(func(image value) { image.object(fields{"glob": a.cipGlob}) })
			},
			"authorities": func(v value) {
				for i, e := range v.list() {
					authorities = append(authorities, readCIPAuthority(e, fmt.Sprintf("%s-authority-%d", o.name, i)))
				}
			},
			"policy": refused(writeCEL),
			"mode":   a.cipMode,
			"match": func(v value) {
				match = &v
				v.lose(everyPull)
			},
		})
	})

	a.decide(authorities)
	if len(a.places) == 0 && len(r.problems) == 0 {
		o.refuse("has no images: add spec.images")
	}
	if a.static == policy.Allow {
		a.checkPass(match)
	}
	return a
}

// cipGlob adds a pattern over image names, of which * and */* are Docker Hub's.
func (a *rule) cipGlob(v value) {
	glob := v.text()
	switch glob {
	case "*":
		glob = "docker.io/library/*"
	case "*/*":
		glob = "docker.io/*/*"
	}

	first, _, _ := strings.Cut(glob, "/")
	if strings.Contains(first, "*") && first != "**" && !strings.ContainsAny(first, ".:") {
		v.refuse("%q does not say which registry: write the host, index.docker.io for Docker Hub", glob)
		return
	}
	a.places = append(a.places, v.globs(glob)...)
}

func (a *rule) cipMode(v value) {
	switch v.text() {
	case "warn":
		a.warn = true
	case "enforce", "":
	default:
		v.refuse("must be enforce or warn")
	}
}

// checkPass refuses a static pass that would admit more here than there. match
// is what selects resources; nil: not written.
func (a *rule) checkPass(match *value) {
	if match != nil {
		match.refuse(
			"static: pass would hold for every pull, not only for these resources: remove match, or the policy",
		)
	}
	for _, p := range a.places {
		if !p.untagged {
			p.refuse("static: pass would hold for every tag and digest: write %s@* there if it should", p.glob)
		}
	}
}

// decide writes "any of these authorities" as what the rule needs.
func (a *rule) decide(authorities []cipAuthority) {
	var signers []authority
	for i, c := range authorities {
		switch c.static {
		case "pass":
			a.static = policy.Allow
			if len(authorities) > 1 {
				c.at.lose("passes whatever the other authorities say: they are not carried")
			}
			return
		case "fail":
			if len(authorities) > 1 {
				c.at.lose("never passes, and the other authorities may: it is not carried")
			}
			continue
		}

		if len(c.attestations) > 1 && len(authorities) > 1 {
			c.at.refuse(
				"asks for several attestations, beside other authorities any of which would do: write one " +
					"attestation, or one authority",
			)
		}
		if i > 0 && c.repository != authorities[0].repository {
			c.at.refuse(
				"its signatures are kept in another place than those of the first authority: a policy has one " +
					"signatureRepository",
			)
		}
		a.repository = c.repository
		if len(c.attestations) == 1 {
			c.accept = c.attestations[0]
		}
		signers = append(signers, c.authority)
	}

	switch {
	case len(authorities) == 0:
		a.refuse("has no authorities: add one, or static: {action: pass}")
	case len(signers) == 0:
		a.static = policy.Deny
		if a.warn {
			a.lose("mode warn does not weaken a static fail here: its images are refused")
		}
	case len(signers) == 1 && len(authorities[0].attestations) > 0 && len(authorities) == 1:
		for _, kind := range authorities[0].attestations {
			a.needs = append(a.needs, need{count: 1, who: signers, kind: kind})
		}
		a.needs[0].who[0].accept = ""
	default:
		a.needs = []need{{count: 1, who: signers}}
	}
	if len(a.needs) > 0 {
		a.lose(childrenByIndex, "policy-controller")
	}
}
