package verify

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/sigs"
)

// judge looks for signatures of d and asks the policy's authorities about each.
// The first that satisfies the policy ends the search. A denial needs every
// place to have answered.
func (g *Gate) judge(parent context.Context, repo policy.Repository, d digest.Digest, p *policy.Policy) (Verdict, error) {
	source := repo
	if !p.SignatureRepository.IsZero() {
		source = p.SignatureRepository
	}
	registry, err := g.registry(source)
	if err != nil {
		return Verdict{}, err
	}
	// A third of the time is left for signatures that were kept.
	ctx, cancel := context.WithTimeout(parent, g.Limits.VerifyTimeout*2/3)
	defer cancel()
	search := &search{gate: g, registry: registry, repo: source, image: d}
	j := &judgement{gate: g, policy: p, image: d, findings: map[string][]string{}}
	search.found = func(c sigs.Candidate) {
		if j.examine(ctx, c) {
			cancel() // enough: the other look-ups need not end
		}
	}
	search.run(ctx)
	v := Verdict{Image: repo, Digest: d, Policy: p.Name}
	switch {
	case j.signer != "":
		v.Outcome, v.Signer = Allowed, j.signer
		v.signed = &kept{At: g.Now(), Signatures: []sigs.Candidate{j.by}}
		return v, nil
	case search.err == nil && ctx.Err() != nil:
		search.err = ctx.Err()
	}
	if search.err != nil {
		if unavailable(search.err) && g.judgeKept(parent, repo, j) {
			v.Outcome, v.Signer, v.stale = Allowed, j.signer+", by a signature kept while the registry cannot be asked", true
			return v, nil
		}
		return Verdict{}, unverified(fmt.Errorf("look for signatures of %s@%s: %w", repo, d, search.err))
	}
	v.Reasons = j.reasons(search.notes)
	v.quick = j.examined == 0 && len(search.notes) == 0
	return v, nil
}

// judgeKept verifies the signatures kept beside the facts, under today's
// policy and keys, when the registry cannot be asked for them.
func (g *Gate) judgeKept(ctx context.Context, repo policy.Repository, j *judgement) bool {
	list, err := g.Store.signatures(repo, j.image, g.Now(), g.StaleIfError)
	if err != nil {
		return false
	}
	for _, c := range list {
		if j.examine(ctx, c) {
			return true
		}
	}
	return false
}

// judgement gathers what the authorities say of each candidate.
type judgement struct {
	gate   *Gate
	policy *policy.Policy
	image  digest.Digest

	mu       sync.Mutex
	examined int
	signer   string
	by       sigs.Candidate      // what the signer signed
	findings map[string][]string // by authority
}

// examine reports whether c satisfies the policy.
func (j *judgement) examine(ctx context.Context, c sigs.Candidate) bool {
	satisfied := false
	err := j.gate.slot(ctx, func() error {
		for _, a := range j.gate.keys[j.policy.Hash] {
			var signer sigs.Signer
			err := guard(func() (err error) {
				signer, err = a.keys.Verify(c, j.image)
				return err
			})
			if err == nil {
				err = lacking(j.policy.Annotations, signer.Annotations)
			}
			if satisfied = j.record(a.name, signer, c, err); satisfied {
				break
			}
		}
		return nil
	})
	j.mu.Lock()
	defer j.mu.Unlock()
	if err == nil && !satisfied {
		j.examined++
	}
	return satisfied
}

// record notes what one authority found; nil is what it looked for.
func (j *judgement) record(authority string, signer sigs.Signer, c sigs.Candidate, err error) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil {
		if len(j.findings[authority]) < maxRecorded {
			j.findings[authority] = append(j.findings[authority], err.Error())
		}
		return false
	}
	j.signer, j.by = fmt.Sprintf("key %q (%s)", authority, signer.KeySource), c
	return true
}

// maxRecorded bounds what is remembered of one authority's findings.
const maxRecorded = 256

// lacking says which of the annotations that must be signed is not.
func lacking(want, signed map[string]string) error {
	for key, value := range want {
		got, ok := signed[key]
		if !ok {
			return fmt.Errorf("the signature lacks the annotation %s=%s", key, value)
		}
		if got != value {
			return fmt.Errorf("the signature's annotation %s is %.64q, not %q", key, got, value)
		}
	}
	return nil
}

// maxFindings bounds the reasons one refusal lists for one authority.
const maxFindings = 3

func (j *judgement) reasons(notes []string) []Reason {
	var names []string
	var list []Reason
	for _, a := range j.policy.Authorities {
		names = append(names, fmt.Sprintf("key %q", a.Name))
		found := unique(j.findings[a.Name])
		if len(found) == 0 {
			continue
		}
		text := strings.Join(found[:min(len(found), maxFindings)], "; ")
		if more := len(found) - maxFindings; more > 0 {
			text += fmt.Sprintf("; and %d more", more)
		}
		list = append(list, Reason{Authority: a.Name, Reason: fmt.Sprintf("%s found, none counts: %s", plural(j.examined, "signature"), text)})
	}
	if len(list) == 0 {
		what := "no signature found"
		if len(notes) > 0 {
			what = "no signature that could be examined"
		}
		list = append(list, Reason{Reason: fmt.Sprintf("%s (looked for: %s)", what, strings.Join(names, ", "))})
	}
	for _, n := range unique(notes) {
		if len(list) > 8 {
			break
		}
		list = append(list, Reason{Reason: n})
	}
	return list
}

func unique(list []string) []string {
	seen := map[string]bool{}
	var out []string
	for _, s := range list {
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
