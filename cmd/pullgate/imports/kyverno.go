package imports

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/policy/foreign"
)

// everyPull is said of what selects resources of a cluster.
const everyPull = "pullgate sees no cluster's resources: the policy holds for every pull of its images"

// readKyverno reads Kyverno's policies about images. All that match must hold.
func readKyverno(r *report, files []File) []rule {
	var rules []rule
	for _, o := range r.objects(files) {
		group, version, _ := strings.Cut(o.version, "/")

		switch {
		case group == "kyverno.io" && o.kind == "ClusterPolicy":
			if version != "v1" && version != "v2beta1" {
				o.refuse("version %q is not known: v1 or v2beta1", version)
			}
			rules = append(rules, readClusterPolicy(r, o)...)
		case group == "policies.kyverno.io" && o.kind == "ImageValidatingPolicy":
			if version != "v1" && version != "v1beta1" && version != "v1alpha1" {
				o.refuse("version %q is not known: v1, v1beta1 or v1alpha1", version)
			}
			rules = append(rules, readImageValidatingPolicy(r, o)...)
		case group == "kyverno.io" && o.kind == "Policy",
			group == "policies.kyverno.io" && o.kind == "NamespacedImageValidatingPolicy":
			o.refuse(
				"a policy of one namespace would hold for every pull here: make it a cluster's policy if it " +
					"should, or take it out of the file",
			)
		default:
			o.isForeign(foreign.Kyverno)
		}
	}
	return rules
}

// clusterPolicy is Kyverno's older kind, a list of rules with one action.
type clusterPolicy struct {
	kubernetes
	audit    bool // as the policy says, or Kyverno's default
	said     bool // an action is written somewhere
	enforced bool // some rule denies, and so does the whole policy
	entries  []verifyImages
	notes    []string // what was lost outside of the rules
}

// verifyImages is one entry of a rule, with what was lost beside it.
type verifyImages struct {
	name  string
	at    value
	notes []string
}

func readClusterPolicy(r *report, o kubernetes) []rule {
	p := clusterPolicy{kubernetes: o, audit: true}
	r.notes = &p.notes
	defer func() { r.notes = nil }()
	o.read(func(spec value) { spec.object(p.fields()) })
	r.notes = nil

	var rules []rule
	for _, e := range p.entries {
		a := rule{
			value: e.at,
			name:  e.name,
			warn:  p.audit,
			notes: slices.Concat(p.notes, e.notes),
		}
		written := readVerifyImages(r, &a)
		p.said, p.enforced = p.said || written, p.enforced || !a.warn
		rules = append(rules, a)
	}

	for i := range rules {
		a := &rules[i]
		r.notes = &a.notes
		switch {
		case p.enforced && a.warn:
			a.warn = false
			a.lose("denies, as another rule of this policy does: Kyverno has one action for all of them")
		case !p.said:
			a.lose("no failureAction is written, which means Audit: it becomes mode: warn")
		}
		r.notes = nil
	}
	return rules
}

// fields are those of a spec.
func (p *clusterPolicy) fields() fields {
	cluster := lost("is the cluster's")

	return fields{
		"validationFailureAction": func(v value) { p.audit, p.said = v.auditing(), true },
		"validationFailureActionOverrides": refused(
			"pullgate knows no namespaces: write one validationFailureAction",
		),
		"rules":                          func(v value) { v.items(p.readRule) },
		"applyRules":                     refusedIfNot("All", "every rule that matches holds here"),
		"failurePolicy":                  lost("what cannot be told is answered with 503"),
		"emitWarning":                    cluster,
		"admission":                      cluster,
		"background":                     cluster,
		"schemaValidation":               cluster,
		"webhookTimeoutSeconds":          cluster,
		"webhookConfiguration":           cluster,
		"mutateExistingOnPolicyUpdate":   cluster,
		"generateExisting":               cluster,
		"generateExistingOnPolicyUpdate": cluster,
		"useServerSideApply":             cluster,
	}
}

func (p *clusterPolicy) readRule(v value) {
	name := ""
	var images []value
	var own []string
	v.r.notes = &own
	defer func() { v.r.notes = &p.notes }()

	cluster := lost("is the cluster's")
	v.object(fields{
		"name":                   func(f value) { name = f.text() },
		"match":                  lost(everyPull),
		"exclude":                lost(everyPull),
		"preconditions":          lost(everyPull),
		"celPreconditions":       lost(everyPull),
		"context":                lost("variables are the cluster's"),
		"imageExtractors":        lost(everyPull),
		"reportProperties":       cluster,
		"skipBackgroundRequests": cluster,
		"mutate":                 lost("is not about images"),
		"validate": func(f value) {
			p.enforced = p.enforced || f.denies()
			f.lose("is not about signatures: keep this rule in Kyverno")
		},
		"generate":     lost("is not about images"),
		"verifyImages": func(f value) { images = f.list() },
	})

	for i, image := range images {
		full := p.name + "/" + name
		if len(images) > 1 {
			full += fmt.Sprintf(" %d", i+1)
		}
		p.entries = append(p.entries, verifyImages{full, image, own})
	}
}

// auditing reads a failure action.
func (v value) auditing() bool {
	switch strings.ToLower(v.text()) {
	case "audit":
		return true
	case "enforce":
	default:
		v.refuse("must be Enforce or Audit")
	}
	return false
}

// denies reports whether a rule about something else may make its policy deny.
func (v value) denies() bool {
	may := v.Node.Kind != yaml.MappingNode // written elsewhere
	for _, f := range v.Fields() {
		switch f.Name {
		case "failureAction":
			may = may || !strings.EqualFold(f.Node.Value, "audit")
		case "failureActionOverrides":
			may = true // in some namespace, perhaps
		}
	}
	return may
}
