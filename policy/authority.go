package policy

import (
	"fmt"
	"strings"
)

var authorityFields = []string{
	"name", "key", "keys", "keyless", "github", "certificate", "accept",
	"required", "transparencyLog", "timestamp", "trustRoot",
}

// authorities reads the list, and finds names and keys that are there twice.
func (l *loader) authorities(v value, policy string) []Authority {
	items, ok := v.filled()
	if !ok {
		return nil
	}

	var list []Authority
	names := map[string]int{} // -> line
	keys := map[string]int{}  // ID or reference -> line
	for i, item := range items {
		a, ok := l.authority(item.called(fmt.Sprintf("%s: authority %d", policy, i+1)), keys)
		if !ok {
			continue
		}

		if a.Name == "" {
			a.Name = a.defaultName(names)
		}
		if line, twice := names[a.Name]; twice && a.Name != "" {
			item.problem("%s: authority name %q is already used at line %d", policy, a.Name, line)
		}
		names[a.Name] = item.Node.Line
		list = append(list, a)
	}
	return list
}

// defaultName names an authority after the signer it trusts; names are taken.
func (a *Authority) defaultName(taken map[string]int) string {
	name := ""
	switch {
	case len(a.Keys) > 0 && a.Keys[0].Source == inlineKey:
		return "key " + a.Keys[0].ID[:12]
	case len(a.Keys) > 0:
		return a.Keys[0].Source
	case len(a.KMS) > 0:
		return a.KMS[0]
	case len(a.Identities) > 0:
		name = a.Identities[0].String()
	case a.PKI != nil:
		name = a.PKI.Subject.String()
	}
	if len(name) > maxName-8 {
		name = strings.ToValidUTF8(name[:maxName-8], "") + "…"
	}

	unique := name
	for i := 2; taken[unique] > 0; i++ {
		unique = fmt.Sprintf("%s %d", name, i)
	}
	return unique
}

// pending is what an authority's fields say that is judged when all are read.
type pending struct {
	kinds     []string // names of the fields that say who signs
	keys      []value  // what key or keys hold
	trustRoot *value   // nil: not written
	ignored   *value   // evidence that is not to be asked for; nil: none
}

// authority reads one entry; keys are the policy's so far, by ID or reference.
// The result is false when the entry is no mapping.
func (l *loader) authority(v value, keys map[string]int) (Authority, bool) {
	fields, ok := v.mapping()
	if !ok {
		return Authority{}, false
	}
	known(fields, authorityFields)

	a := Authority{Accept: []string{SignaturePredicate}}
	var rest pending
	for _, f := range fields {
		l.authorityField(&a, &rest, f)
	}

	if len(rest.kinds) != 1 {
		v.problem(
			"%s must have exactly one of key, keys, keyless, github, certificate, not %s",
			v.Path,
			orNone(rest.kinds),
		)
	}
	if rest.ignored != nil && len(a.Identities) > 0 {
		rest.ignored.problem(
			"%s: what a keyless signature must bring is the trust root's to say: remove it",
			rest.ignored.Path,
		)
	}

	for _, key := range rest.keys {
		l.addKey(&a, key.called(v.Path), keys)
	}
	if len(rest.kinds) == 1 {
		l.evidence(&a, rest, v.Path)
	}
	return a, true
}

func (l *loader) authorityField(a *Authority, rest *pending, f field) {
	switch f.name {
	case "key", "keys", "keyless", "github", "certificate":
		rest.kinds = append(rest.kinds, f.name)
	}

	switch f.name {
	case "name":
		a.Name = f.displayName()
	case "key":
		rest.keys = append(rest.keys, f.value)
	case "keys":
		list, _ := f.filled()
		rest.keys = append(rest.keys, list...)
	case "keyless":
		a.Identities, a.TrustRoots = l.keyless(f.value)
	case "github":
		a.Identities, a.TrustRoots = l.github(f.value)
	case "certificate":
		a.PKI = l.pki(f.value)
	case "trustRoot":
		rest.trustRoot = &f.value
	case "required":
		a.Required = f.boolean()
	case "transparencyLog":
		a.TransparencyLog = rest.demands(f)
	case "timestamp":
		a.Timestamp = rest.demands(f)
	case "accept":
		if types := f.accept(); len(types) > 0 {
			a.Accept = types
		}
	}
}

// demands reads whether evidence is asked for.
func (rest *pending) demands(f field) bool {
	word := f.choice("ignore", "require")
	if word == "ignore" {
		rest.ignored = &f.value
	}
	return word == "require"
}

// evidence settles which trust root's logs and timestamps an authority asks for.
func (l *loader) evidence(a *Authority, rest pending, what string) {
	kind, root := rest.kinds[0], rest.trustRoot
	stamped := a.PKI != nil && a.PKI.RequireTimestamp
	switch {
	case kind == "keyless" || kind == "github":
		if root != nil {
			root.problem("%s: trustRoot is for keys and certificates: write trustRoots under %s", what, kind)
		}
	case root != nil:
		if a.PKI == nil && !a.TransparencyLog && !a.Timestamp {
			root.problem(
				"%s: trustRoot has no effect without transparencyLog: require or timestamp: require",
				what,
			)
		}
		if name, ok := root.text(); ok {
			a.TrustRoots = []string{name}
			l.rootUses = append(l.rootUses, rootUse{*root, name})
		}
	case !a.TransparencyLog && !a.Timestamp && !stamped:
		return
	}

	if len(a.TrustRoots) == 0 {
		a.TrustRoots = []string{PublicGood}
	}
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, " and ")
}
