package imports

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/policy/foreign"
)

// readTalos reads Talos Linux's ImageVerificationConfig: a list of rules of
// which the first that matches decides, as here.
func readTalos(r *report, files []File) []native {
	var policies []native
	for _, f := range files {
		for _, doc := range r.documents(f) {
			policies = append(policies, readTalosDocument(doc, len(policies))...)
		}
	}
	return policies
}

// readTalosDocument reads one document, which has so many rules before it.
func readTalosDocument(doc value, before int) []native {
	if doc.isElsewhere(foreign.Talos) {
		return nil
	}

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
				p, places := readTalosRule(e)
				p.name = fmt.Sprintf("rule %d", before+i+1)
				p.places = reached(places, policies)
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

// reached are the places that no earlier policy matches all of.
func reached(places []place, earlier []native) []place {
	var some []place
	for _, p := range places {
		covered := slices.ContainsFunc(earlier, func(e native) bool {
			return slices.ContainsFunc(e.places, func(at place) bool { return at.covers(p) })
		})
		if covered {
			p.lose("%s is never reached, a rule before it matches all of it", p.glob)
			continue
		}
		some = append(some, p)
	}
	return some
}

// talosRule is what one rule says.
type talosRule struct {
	places     []place
	skip, deny bool
	signers    []authority
	never      *value // a pattern that matches nothing in Talos; nil: none
}

// readTalosRule reads a rule, and where it applies.
func readTalosRule(v value) (native, []place) {
	var p native
	v.r.notes = &p.notes
	defer func() { v.r.notes = nil }()

	var t talosRule
	before := len(v.r.problems)
	v.object(fields{
		"image": t.readImage,
		"skip":  func(f value) { t.skip = f.flag() },
		"deny":  func(f value) { t.deny = f.flag() },
		"keyless": func(f value) {
			if id, ok := f.identity(identityForm{plain: exactly, subjectRegExp: "subjectRegex"}); ok {
				t.signers = append(t.signers, authority{identities: []identity{id}})
			}
		},
		"publicKey": func(f value) {
			f.object(fields{"certificate": func(u value) {
				if key, ok := u.publicKey(); ok {
					t.signers = append(t.signers, authority{keys: []string{key}, log: true}) // as Talos does
				}
			}})
		},
	})

	switch {
	case len(v.r.problems) > before:
	case t.said() != 1 || len(t.signers) > 1:
		v.refuse("must have exactly one of skip, deny, keyless and publicKey")
	case len(t.places) == 0:
		v.refuse("has no image: name the images")
	case t.never != nil && t.skip:
		t.never.refuse(
			"matches nothing in Talos, where Docker Hub is index.docker.io, and would admit images here: write " +
				"index.docker.io, or remove the rule",
		)
	case t.deny:
		p.static = policy.Deny
	case t.skip:
		p.static = policy.Allow
	default:
		p.authorities = t.signers
		v.lose(childrenByIndex, "Talos")
	}

	if t.never != nil {
		t.never.lose(
			"matches nothing in Talos, where Docker Hub is index.docker.io; here it does, before all later rules",
		)
	}
	return p, t.places
}

// said counts what the rule says of its images.
func (t *talosRule) said() int {
	said := 0
	for _, on := range []bool{t.skip, t.deny, len(t.signers) > 0} {
		if on {
			said++
		}
	}
	return said
}

func (t *talosRule) readImage(v value) {
	pattern := crossing(v.text())
	switch {
	case pattern == "":
		v.refuse("is empty, which matches nothing: name the images")
		return
	case strings.ContainsAny(pattern, "@"):
		v.refuse("%q has a digest, which Talos does not see: write the repository", v.text())
		return
	}
	if strings.HasPrefix(pattern, "docker.io/") {
		t.never = &v
	}

	for _, text := range dialect(pattern) {
		g, err := policy.ParseGlob(text)
		if err != nil {
			v.refuse("%v", err)
			return
		}
		if !v.oneHub(text) {
			return
		}
		t.places = append(t.places, place{value: v, glob: g, untagged: true})
	}
}
