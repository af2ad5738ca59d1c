package verify

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/reason"
)

// warns reports whether a refusal under p admits with a warning. Nothing
// weakens a written-out static deny.
func (g *Gate) warns(p *policy.Policy) bool {
	return !p.IsExplicitDeny() && (p.Mode == policy.Warn || g.config.Mode == policy.Warn)
}

// underMode is what p's mode makes of a judgement about d, or of the error that
// prevented one. It is the only place where mode: warn admits: what is denied,
// and what could not be verified. In both cases the bytes were resolved once and
// hashed.
func (q *question) underMode(p *policy.Policy, d digest.Digest, v judgement, err error) (judgement, error) {
	if !q.warns(p) {
		return v, err
	}

	switch {
	case err == nil && v.Outcome == Denied && !v.final:
		v.Outcome = Warned
	case isUnverified(err):
		unverified := q.verdictOf(p, d)
		unverified.Outcome = WarnedUnverified
		unverified.Reasons = []Reason{{Code: reason.Unverified, Text: "it could not be verified"}}
		return judgement{Verdict: unverified}, nil
	}
	return v, err
}

// isUnverified reports the errors that say nothing against an image: an upstream
// failed while it was verified, it has too many parents, or the time was up. A
// client that has left is told nothing.
func isUnverified(err error) bool {
	if errors.Is(err, context.Canceled) {
		return false
	}
	var failed *unverifiedError
	return errors.As(err, &failed) || errors.Is(err, errTooManyParents) ||
		errors.Is(err, errLongDescent) || errors.Is(err, context.DeadlineExceeded)
}
