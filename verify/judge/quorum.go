package judge

import (
	"fmt"
	"slices"

	"github.com/pullgate/pullgate/verify/sigs"
)

// satisfied reports whether the policy is satisfied by what was examined.
func (t *tally) satisfied() bool {
	t.mu.Lock()
	defer t.mu.Unlock()

	return t.enough()
}

// enough reports whether the policy is satisfied: every attestation is there,
// every required authority has passed, and as many as the threshold says.
func (t *tally) enough() bool {
	if len(t.authorities) == 0 || slices.Contains(t.attested, "") {
		return false
	}

	standing := t.standing()
	n := 0
	for i, a := range t.policy.Authorities {
		switch {
		case standing[i] >= 0:
			n++
		case a.Required:
			return false
		}
	}
	return n >= t.threshold()
}

// threshold is how many authorities must pass.
func (t *tally) threshold() int { return max(1, t.policy.Threshold) }

// standing says which signer stands for each authority, -1: none, so it has not
// passed. Each signer stands for one: a signer who would satisfy two counts
// once, or a quorum of two would be one person. It is a matching of authorities
// and signers, the required ones first, as large as there is (augmenting paths:
// an authority that has been matched stays so).
func (t *tally) standing() []int {
	ofSigner := make([]int, len(t.signers)) // signer -> authority that it stands for, -1: none
	for i := range ofSigner {
		ofSigner[i] = -1
	}

	var seen []bool
	var match func(authority int) bool
	match = func(authority int) bool {
		for _, s := range t.passes[authority] {
			if seen[s] {
				continue
			}
			seen[s] = true
			if ofSigner[s] < 0 || match(ofSigner[s]) {
				ofSigner[s] = authority
				return true
			}
		}
		return false
	}
	for _, required := range []bool{true, false} {
		for i, a := range t.policy.Authorities {
			if a.Required == required {
				seen = make([]bool, len(t.signers))
				match(i)
			}
		}
	}

	standing := make([]int, len(t.passes))
	for i := range standing {
		standing[i] = slices.Index(ofSigner, i)
	}
	return standing
}

// incomplete returns what is not loaded of the first authority that could have
// turned this denial into an allow; nil means that the denial is final.
func (t *tally) incomplete() error {
	t.mu.Lock()
	defer t.mu.Unlock()

	hoped := tally{
		policy:      t.policy,
		authorities: t.authorities,
		signers:     slices.Clone(t.signers),
		passes:      slices.Clone(t.passes),
		attested:    slices.Clone(t.attested),
	}
	var missing error
	for i, a := range t.authorities {
		if !t.unloaded[i] {
			continue
		}
		if missing == nil {
			missing = fmt.Errorf("authority %q: %w", a.Name(), a.Incomplete())
		}

		// What is not loaded would count, as the work of a signer who is new.
		hoped.passes[i] = append(slices.Clone(t.passes[i]), len(hoped.signers))
		hoped.signers = append(hoped.signers, sigs.Signer{})
		for n, want := range t.policy.Attestations {
			if slices.Contains(want.Authorities, a.Name()) {
				hoped.attested[n] = a.Name()
			}
		}
	}

	if missing == nil || !hoped.enough() {
		return nil
	}
	return missing
}
