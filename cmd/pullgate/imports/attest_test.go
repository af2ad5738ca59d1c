package imports

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/policy/strictyaml"
)

// TestMergedAttestations makes rules for the same images that ask for
// signatures and attestations, and tries them with every set of these: what is
// admitted is never what one of the rules refuses.
func TestMergedAttestations(t *testing.T) {
	const kind = "https://slsa.dev/provenance/v1"
	rng := rand.New(rand.NewPCG(5, 6))
	signers := []string{"a", "b", "c"}
	everything := everywhere(value{r: &report{}})
	carried, admitted := 0, 0
	for range 20000 {
		r := &report{}
		at := value{strictyaml.Value{File: "f", Node: &yaml.Node{}}, r}
		var rules []rule
		for i := range 1 + rng.IntN(3) {
			a := rule{value: at, name: fmt.Sprint("rule ", i), places: []place{everything}}
			for range 1 + rng.IntN(2) {
				n := need{}
				attested := rng.IntN(2) == 0
				if attested {
					n.kind = kind
				}
				for _, j := range rng.Perm(len(signers))[:1+rng.IntN(len(signers))] {
					who := authority{identities: []identity{{issuer: "i", subject: signers[j]}}}
					if !attested && rng.IntN(2) == 0 {
						who.accept = kind
					}
					n.who = append(n.who, who)
				}
				n.count = 1 + rng.IntN(len(n.who))
				a.needs = append(a.needs, n)
			}

			rules = append(rules, a)
		}

		policies := merge(r, rules)
		if len(r.problems) > 0 {
			continue
		}
		carried++
		p := policies[0]
		for set := range 1 << (2 * len(signers)) { // who signed, and above it who attested
			made := func(who authority, attestation bool) bool {
				return slices.ContainsFunc(who.identities, func(id identity) bool {
					bit := slices.Index(signers, id.subject)
					if attestation {
						bit += len(signers)
					}
					return set&(1<<bit) != 0
				})
			}

			want := true
			for _, a := range rules {
				for _, n := range a.needs {
					count := 0
					for _, who := range n.who {
						if made(who, n.kind != "" || who.accept != "") {
							count++
						}
					}
					want = want && count >= n.count
				}
			}

			got, passed := true, 0
			for _, who := range p.authorities {
				if made(who, who.accept != "") {
					passed++
				} else if who.required {
					got = false
				}
			}

			got = got && passed >= max(p.threshold, 1)
			for _, asked := range p.attestations {
				by := slices.IndexFunc(p.authorities, func(who authority) bool { return who.name == asked.by })
				got = got && made(p.authorities[by], true)
			}
			if got && !want {
				t.Fatalf("signed and attested %06b: admitted, and a rule refuses it\n%+v\n%+v", set, rules, p)
			}
			if got {
				admitted++
			}
		}
	}

	if carried < 1000 || admitted < 1000 {
		t.Errorf("%d sets of rules were carried, %d sets of signers admitted", carried, admitted)
	}
}
