package judge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/reason"
	"github.com/pullgate/pullgate/verify/sigs"
)

// tally gathers what the authorities of one policy say of each candidate for
// one image.
type tally struct {
	judge       *Judge
	policy      *policy.Policy
	authorities []*sigs.Authority // as in policy.Authorities
	image       policy.Image

	mu       sync.Mutex
	examined int              // candidates
	signers  []sigs.Signer    // different ones, of signatures that count
	passes   [][]int          // by authority: positions in signers
	attested []string         // by attestation: who signed one that is as demanded
	unloaded []bool           // by authority: something might have counted, had all been loaded
	evidence []sigs.Candidate // what counted for something
	ends     time.Time        // the first end of what counted; zero: none

	findings []finding // by authority
	lacking  []finding // by attestation
	unread   finding   // of what could not be read at all
}

func (j *Judge) newTally(p *policy.Policy, image policy.Image) *tally {
	return &tally{
		judge:       j,
		policy:      p,
		authorities: j.authorities[p.Hash],
		image:       image,
		passes:      make([][]int, len(p.Authorities)),
		unloaded:    make([]bool, len(p.Authorities)),
		findings:    make([]finding, len(p.Authorities)),
		attested:    make([]string, len(p.Attestations)),
		lacking:     make([]finding, len(p.Attestations)),
	}
}

// examine reports whether the policy is satisfied, with c. r is c taken apart; nil:
// it has not been yet.
func (t *tally) examine(ctx context.Context, c sigs.Candidate, r *sigs.Reading) bool {
	err := t.judge.slot(ctx, func() error {
		return Guard(func() error {
			if r == nil {
				r = t.open(c)
			}
			if r != nil {
				t.ask(ctx, c, r)
			}
			return nil
		})
	})

	t.mu.Lock()
	defer t.mu.Unlock()

	if err == nil {
		t.examined++
	}
	return t.enough()
}

// read takes c apart. Nil without an error means that it cannot be read and has
// been examined with that; an error, that ctx has ended.
func (t *tally) read(ctx context.Context, c sigs.Candidate) (r *sigs.Reading, err error) {
	err = t.judge.slot(ctx, func() error {
		r = t.open(c)
		return nil
	})
	if err != nil || r != nil {
		return r, err
	}

	t.mu.Lock()
	defer t.mu.Unlock()

	t.examined++
	return nil, nil
}

// open takes c apart, or notes why it cannot be read.
func (t *tally) open(c sigs.Candidate) *sigs.Reading {
	var reading *sigs.Reading
	err := survive(func() (err error) {
		reading, err = sigs.Read(c, t.image.Digest)
		return err
	})
	if err != nil {
		t.unreadable(err)
		return nil
	}
	return reading
}

// likelihood is how likely it is that what was read counts for an authority.
func (t *tally) likelihood(r *sigs.Reading) sigs.Likelihood {
	return t.likeliest(func(a *sigs.Authority) sigs.Likelihood { return a.Likelihood(r) })
}

// layerLikelihood is likelihood of a layer whose blob has not been fetched.
func (t *tally) layerLikelihood(annotations map[string]string) sigs.Likelihood {
	return t.likeliest(func(a *sigs.Authority) sigs.Likelihood { return a.LayerLikelihood(annotations) })
}

func (t *tally) likeliest(of func(*sigs.Authority) sigs.Likelihood) sigs.Likelihood {
	most := sigs.Never
	err := survive(func() error {
		for _, a := range t.authorities {
			most = max(most, of(a))
		}
		return nil
	})
	if err != nil {
		return sigs.Unlikely // what cannot be looked at is examined at last, and says why
	}
	return most
}

// wants reports whether a predicate type counts for something.
func (t *tally) wants(predicateType string) bool {
	return slices.ContainsFunc(t.authorities, func(a *sigs.Authority) bool { return a.Wants(predicateType) })
}

// ask puts one candidate to every authority, until the policy is satisfied.
func (t *tally) ask(ctx context.Context, c sigs.Candidate, reading *sigs.Reading) {
	counted := false
	for i, a := range t.authorities {
		var signer sigs.Signer
		err := survive(func() (err error) {
			signer, err = a.Verify(reading)
			return err
		})
		if err != nil {
			t.refuse(i, err)
			continue
		}

		attested := t.attests(ctx, i, signer)
		t.mu.Lock()
		if t.signs(i, signer) || attested {
			if !counted {
				t.evidence = append(t.evidence, c)
			}
			counted = true
			t.endWith(signer)
		}
		done := t.enough()
		t.mu.Unlock()

		if done {
			return
		}
	}
}

// endWith ends what counts no later than signer does.
func (t *tally) endWith(signer sigs.Signer) {
	if !signer.Until.IsZero() && (t.ends.IsZero() || signer.Until.Before(t.ends)) {
		t.ends = signer.Until
	}
}

// unreadable notes a candidate that no authority could be asked about.
func (t *tally) unreadable(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()

	t.unread.add(sigs.CodeOf(err), err)
	for i := range t.findings {
		t.findings[i].add(sigs.CodeOf(err), err)
	}
}

// refuse notes why a candidate is none of authority i's.
func (t *tally) refuse(i int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()

	t.findings[i].add(sigs.CodeOf(err), err)
	t.unloaded[i] = t.unloaded[i] || errors.Is(err, sigs.ErrNotLoaded)
}

// signs notes that signer's statement counts as authority i's signature, and
// reports whether that is new.
func (t *tally) signs(i int, signer sigs.Signer) bool {
	if !t.authorities[i].Accepts(signer) {
		t.findings[i].add(
			reason.WrongType,
			fmt.Errorf("it is an attestation (%.80q), not a signature", signer.PredicateType),
		)
		return false
	}
	if err := unannotated(t.policy.Annotations, signer.Annotations); err != nil {
		t.findings[i].add(reason.Annotation, err)
		return false
	}

	at := slices.IndexFunc(t.signers, signer.Same)
	if at < 0 {
		at = len(t.signers)
		t.signers = append(t.signers, signer)
	}
	if slices.Contains(t.passes[i], at) {
		return false
	}
	t.passes[i] = append(t.passes[i], at)
	return true
}

// unannotated is an error that names an annotation which must be signed and is
// not; nil means that all are.
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

// attests notes which of the demanded attestations signer's statement is, as
// signed by authority i, and reports whether that is new.
func (t *tally) attests(ctx context.Context, i int, signer sigs.Signer) bool {
	counts := false
	statement := sync.OnceValues(func() (policy.Statement, error) { return t.statement(signer) })
	for n, want := range t.policy.Attestations {
		if want.Type != signer.PredicateType || signer.Statement == nil ||
			!slices.Contains(want.Authorities, t.authorities[i].Name()) {
			continue
		}

		var err error
		if want.CEL != nil {
			var s policy.Statement
			if s, err = statement(); err == nil {
				err = want.CEL.Holds(ctx, s)
			}
		}

		t.mu.Lock()
		switch {
		case err != nil:
			t.lacking[n].add(reason.Attestation, fmt.Errorf("the one by %s: %w", signer, err))
		case t.attested[n] == "":
			t.attested[n] = fmt.Sprintf("%s (%s)", t.label(i), signer)
			counts = true
		}
		t.mu.Unlock()
	}
	return counts
}

// statement is what a CEL expression sees.
func (t *tally) statement(signer sigs.Signer) (policy.Statement, error) {
	var s struct {
		Predicate any   `json:"predicate"`
		Subject   []any `json:"subject"`
	}
	if err := json.Unmarshal(signer.Statement, &s); err != nil {
		return policy.Statement{}, errors.New("its statement cannot be read")
	}

	return policy.Statement{
		Predicate:     s.Predicate,
		PredicateType: signer.PredicateType,
		Subject:       s.Subject,
		Image:         t.image.Repository.String(),
		Digest:        t.image.Digest.String(),
	}, nil
}
