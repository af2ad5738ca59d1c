package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
	"github.com/pullgate/pullgate/verify/sigs"
)

// judge looks for signatures of d and asks the policy's authorities about each.
// The search ends as soon as the policy is satisfied. A denial needs every
// place to have answered, and everything to be loaded that could have admitted.
func (g *Gate) judge(
	parent context.Context,
	repo policy.Repository,
	d digest.Digest,
	p *policy.Policy,
) (Verdict, error) {
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
	ctx, enough := context.WithCancelCause(ctx)
	defer enough(nil)
	j := newJudgement(g, p, repo, d)
	search := &search{
		gate:         g,
		registry:     registry,
		repo:         source,
		image:        d,
		attestations: wantsAttestations(p),
	}
	search.found = func(c sigs.Candidate) {
		if j.examine(ctx, c) {
			enough(oci.ErrEnough) // the other look-ups need not end
		}
	}
	search.run(ctx)
	v := Verdict{
		Image:      repo,
		Digest:     d,
		Policy:     p.Name,
		PolicyHash: p.Hash,
	}
	switch {
	case j.satisfied():
		v.Outcome, v.Signer, v.Findings, v.ends = Allowed, j.signer(), j.conclusions(), j.ends
		v.signed = storedEvidence(g.Now(), j.evidence)
		return v, nil
	case search.err == nil && ctx.Err() != nil:
		search.err = ctx.Err()
	}
	if search.err != nil {
		if unavailable(search.err) && g.judgeKept(parent, repo, j) {
			v.Outcome, v.Signer, v.stale = Allowed, j.signer()+", by a signature kept while the registry cannot "+
				"be asked", true
			v.Findings, v.ends = j.conclusions(), j.ends
			return v, nil
		}
		return Verdict{}, unverified(fmt.Errorf("look for signatures of %s@%s: %w", repo, d, search.err))
	}
	if err := j.incomplete(); err != nil {
		return Verdict{}, unverified(fmt.Errorf("verify %s@%s: %w", repo, d, err))
	}
	v.Reasons, v.Findings = j.reasons(search.notes), j.conclusions()
	v.quick = j.examined == 0 && len(search.notes) == 0
	return v, nil
}

// judgeKept verifies the signatures kept beside the facts, under today's
// policy and keys, when the registry cannot be asked for them.
func (g *Gate) judgeKept(ctx context.Context, repo policy.Repository, j *judgement) bool {
	stored, err := g.Store.Evidence(ctx, repo, j.image, g.Now(), g.StaleIfError)
	if err != nil {
		return false
	}
	for _, c := range candidates(stored) {
		if j.examine(ctx, c) {
			return true
		}
	}
	return false
}

// wantsAttestations reports whether anything but signatures counts under p.
func wantsAttestations(p *policy.Policy) bool {
	return len(p.Attestations) > 0 || slices.ContainsFunc(p.Authorities, func(a policy.Authority) bool {
		return slices.ContainsFunc(a.Accept, func(t string) bool { return t != policy.SignaturePredicate })
	})
}

// judgement gathers what the authorities say of each candidate.
type judgement struct {
	gate        *Gate
	policy      *policy.Policy
	authorities []*sigs.Authority // as in policy.Authorities
	repo        policy.Repository
	image       digest.Digest

	mu       sync.Mutex
	examined int              // candidates
	signers  []sigs.Signer    // different ones, of signatures that count
	passes   [][]int          // by authority: positions in signers
	attested []string         // by attestation: who signed one that is as demanded
	open     []bool           // by authority: something might have counted, had all been loaded
	evidence []sigs.Candidate // what counted for something
	ends     time.Time        // the first end of what counted; zero: none

	findings []finding // by authority
	lacking  []finding // by attestation
	unread   finding   // of what could not be read at all
}

func newJudgement(g *Gate, p *policy.Policy, repo policy.Repository, d digest.Digest) *judgement {
	return &judgement{
		gate:        g,
		policy:      p,
		authorities: g.authorities[p.Hash],
		repo:        repo,
		image:       d,
		passes:      make([][]int, len(p.Authorities)),
		open:        make([]bool, len(p.Authorities)),
		findings:    make([]finding, len(p.Authorities)),
		attested:    make([]string, len(p.Attestations)),
		lacking:     make([]finding, len(p.Attestations)),
	}
}

// examine reports whether the policy is satisfied, with c.
func (j *judgement) examine(ctx context.Context, c sigs.Candidate) bool {
	err := j.gate.slot(ctx, func() error {
		return guard(func() error {
			j.ask(ctx, c)
			return nil
		})
	})
	j.mu.Lock()
	defer j.mu.Unlock()
	if err == nil {
		j.examined++
	}
	return j.enough()
}

// ask puts one candidate to every authority.
func (j *judgement) ask(ctx context.Context, c sigs.Candidate) {
	var reading *sigs.Reading
	err := survive(func() (err error) {
		reading, err = sigs.Read(c, j.image)
		return err
	})
	if err != nil {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.unread.add(err)
		for i := range j.findings {
			j.findings[i].add(err)
		}
		return
	}
	counts := false
	for i, a := range j.authorities {
		var signer sigs.Signer
		err := survive(func() (err error) {
			signer, err = a.Verify(reading)
			return err
		})
		if err != nil {
			j.mu.Lock()
			j.findings[i].add(err)
			j.open[i] = j.open[i] || errors.Is(err, sigs.ErrNotLoaded)
			j.mu.Unlock()
			continue
		}
		attested := j.attests(ctx, i, signer)
		j.mu.Lock()
		signed := j.signs(i, signer)
		if signed || attested {
			if !counts {
				j.evidence = append(j.evidence, c)
			}
			counts = true
			if !signer.Until.IsZero() && (j.ends.IsZero() || signer.Until.Before(j.ends)) {
				j.ends = signer.Until
			}
		}
		done := j.enough()
		j.mu.Unlock()
		if done {
			return
		}
	}
}

// survive makes a panic over one candidate one reason why it does not count:
// others may.
func survive(work func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it cannot be verified: %.100q", fmt.Sprint(p))
		}
	}()
	return work()
}

// signs notes that signer's statement counts as authority i's signature, if it does.
func (j *judgement) signs(i int, signer sigs.Signer) bool {
	if !j.authorities[i].Accepts(signer) {
		j.findings[i].add(fmt.Errorf("it is an attestation (%.80q), not a signature", signer.PredicateType))
		return false
	}
	if err := unannotated(j.policy.Annotations, signer.Annotations); err != nil {
		j.findings[i].add(err)
		return false
	}
	at := slices.IndexFunc(j.signers, signer.Same)
	if at < 0 {
		at = len(j.signers)
		j.signers = append(j.signers, signer)
	}
	if slices.Contains(j.passes[i], at) {
		return false // nothing new
	}
	j.passes[i] = append(j.passes[i], at)
	return true
}

// attests notes which of the demanded attestations signer's statement is, as
// signed by authority i.
func (j *judgement) attests(ctx context.Context, i int, signer sigs.Signer) bool {
	counts := false
	var statement *policy.Statement
	for n, want := range j.policy.Attestations {
		if want.Type != signer.PredicateType || signer.Statement == nil ||
			!slices.Contains(want.Authorities, j.authorities[i].Name()) {
			continue
		}
		var err error
		if want.CEL != nil {
			if statement == nil {
				statement, err = j.statement(signer)
			}
			if err == nil {
				err = want.CEL.Holds(ctx, *statement)
			}
		}
		j.mu.Lock()
		switch {
		case err != nil:
			j.lacking[n].add(fmt.Errorf("the one by %s: %w", signer, err))
		case j.attested[n] == "":
			j.attested[n] = fmt.Sprintf("%s %q (%s)", j.policy.Authorities[i].Kind(), j.authorities[i].Name(), signer)
			counts = true
		}
		j.mu.Unlock()
	}
	return counts
}

// statement is what a CEL expression sees.
func (j *judgement) statement(signer sigs.Signer) (*policy.Statement, error) {
	var s struct {
		Predicate any   `json:"predicate"`
		Subject   []any `json:"subject"`
	}
	if err := json.Unmarshal(signer.Statement, &s); err != nil {
		return nil, errors.New("its statement cannot be read")
	}
	return &policy.Statement{
		Predicate:     s.Predicate,
		PredicateType: signer.PredicateType,
		Subject:       s.Subject,
		Image:         j.repo.String(),
		Digest:        j.image.String(),
	}, nil
}

// unannotated says which of the annotations that must be signed is not.
func unannotated(want, signed map[string]string) error {
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

func (j *judgement) satisfied() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.enough()
}

// enough reports whether the policy is satisfied: every attestation is there,
// every required authority has passed, and as many as the threshold says.
func (j *judgement) enough() bool {
	if len(j.authorities) == 0 || slices.Contains(j.attested, "") {
		return false
	}
	standing := j.standing()
	n := 0
	for i, a := range j.policy.Authorities {
		switch {
		case standing[i] >= 0:
			n++
		case a.Required:
			return false
		}
	}
	return n >= max(1, j.policy.Threshold)
}

// standing says which signer stands for each authority, -1: none, so it has not
// passed. Each signer stands for one: one who would satisfy two counts once, or
// a quorum of two would be one person. It is a matching of authorities and
// signers, the required ones first, as large as there is (augmenting paths: an
// authority that has been matched stays so).
func (j *judgement) standing() []int {
	ofSigner := make([]int, len(j.signers)) // signer -> authority that it stands for, -1: none
	for i := range ofSigner {
		ofSigner[i] = -1
	}
	var seen []bool
	var match func(authority int) bool
	match = func(authority int) bool {
		for _, s := range j.passes[authority] {
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
		for i, a := range j.policy.Authorities {
			if a.Required == required {
				seen = make([]bool, len(j.signers))
				match(i)
			}
		}
	}
	standing := make([]int, len(j.passes))
	for i := range standing {
		standing[i] = slices.Index(ofSigner, i)
	}
	return standing
}

// incomplete says what is not loaded without which a refusal would be a guess:
// with it, something that was found might count, and that might be enough.
func (j *judgement) incomplete() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	hoped := judgement{
		policy:      j.policy,
		authorities: j.authorities,
		signers:     slices.Clone(j.signers),
		passes:      slices.Clone(j.passes),
		attested:    slices.Clone(j.attested),
	}
	var missing error
	for i, a := range j.authorities {
		if !j.open[i] {
			continue
		}
		if missing == nil {
			missing = fmt.Errorf("authority %q: %w", a.Name(), a.Incomplete())
		}
		hoped.passes[i] = append(slices.Clone(j.passes[i]), len(hoped.signers)) // by somebody new
		hoped.signers = append(hoped.signers, sigs.Signer{})
		for n, want := range j.policy.Attestations {
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
