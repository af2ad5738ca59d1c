package imports

import (
	"fmt"
	"strings"

	"github.com/pullgate/pullgate/policy"
)

// readTalos reads Talos Linux's ImageVerificationConfig: a list of rules of
// which the first that matches decides, as here.
func readTalos(r *report, files []File) []native {
	var policies []native
	for _, f := range files {
		for _, doc := range r.documents(f) {
			policies = append(policies, readTalosDocument(r, doc, len(policies))...)
		}
	}
	return policies
}

func readTalosDocument(r *report, doc value, before int) []native {
	var policies []native
	kind := ""
	doc.object(fields{
		"apiVersion": func(v value) {
			if v.text() != "v1alpha1" {
				v.refuse("version %q is not known: v1alpha1", v.text())
			}
		},
		"kind": func(v value) {
			kind = v.text()
			if kind != "ImageVerificationConfig" {
				v.refuse("%q is no ImageVerificationConfig: take this document out of the file", kind)
			}
		},
		"rules": func(v value) {
			for i, e := range v.list() {
				p, places := readTalosRule(r, e)
				p.name = fmt.Sprintf("rule %d", before+i+1)
				for _, q := range places {
					covered := false
					for _, earlier := range policies {
						for _, at := range earlier.places {
							covered = covered || at.covers(q)
						}
					}
					if covered {
						q.lose("%s is never reached, a rule before it matches all of it", q.glob)
						continue
					}
					p.places = append(p.places, q)
				}
				if len(p.places) > 0 {
					policies = append(policies, p)
				}
			}
			v.lose("an image that no rule matches is admitted by Talos; here defaultAction decides, which is deny")
		},
	})
	if kind == "" {
		doc.refuse("has no kind: this is no ImageVerificationConfig")
	}
	return policies
}

func readTalosRule(r *report, v value) (native, []place) {
	var p native
	r.notes = &p.notes
	defer func() { r.notes = nil }()
	var places []place
	skip, deny := false, false
	var never *value // a pattern that matches nothing in Talos
	var signers []authority
	before := len(r.problems)
	v.object(fields{
		"image": func(f value) {
			pattern := crossing(f.text())
			switch {
			case pattern == "":
				f.refuse("is empty, which matches nothing: name the images")
				return
			case strings.ContainsAny(pattern, "@"):
				f.refuse("%q has a digest, which Talos does not see: write the repository", f.text())
				return
			}
			if strings.HasPrefix(pattern, "docker.io/") {
				never = &f
			}
			for _, text := range dialect(pattern) {
				g, err := policy.ParseGlob(text)
				if err != nil {
					f.refuse("%v", err)
					return
				}
				if !f.oneHub(text) {
					return
				}
				places = append(places, place{value: f, glob: g, any: true})
			}
		},
		"skip": func(f value) { skip = f.flag() },
		"deny": func(f value) { deny = f.flag() },
		"keyless": func(f value) {
			if id, ok := f.who(exactly, [2]string{"", "subjectRegex"}, nil); ok {
				signers = append(signers, authority{identities: []identity{id}})
			}
		},
		"publicKey": func(f value) {
			f.object(fields{"certificate": func(u value) {
				if key, ok := u.publicKey(); ok {
					signers = append(signers, authority{keys: []string{key}, log: true}) // as Talos does
				}
			}})
		},
	})
	said := 0
	for _, on := range []bool{skip, deny, len(signers) > 0} {
		if on {
			said++
		}
	}
	switch {
	case len(r.problems) > before:
	case said != 1 || len(signers) > 1:
		v.refuse("must have exactly one of skip, deny, keyless and publicKey")
	case len(places) == 0:
		v.refuse("has no image: name the images")
	case never != nil && skip:
		never.refuse(
			"matches nothing in Talos, where Docker Hub is index.docker.io, and would admit images here: write " +
				"index.docker.io, or remove the rule",
		)
	case deny:
		p.static = policy.Deny
	case skip:
		p.static = policy.Allow
	default:
		p.authorities = signers
	}
	if never != nil {
		never.lose(
			"matches nothing in Talos, where Docker Hub is index.docker.io; here it does, before all later rules",
		)
	}
	return p, places
}
