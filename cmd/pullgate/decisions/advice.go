package decisions

import (
	"net/http"
	"slices"

	"github.com/pullgate/pullgate/verify"
	"github.com/pullgate/pullgate/verify/reason"
)

// Advice returns what helps after the decision that r records, in lines, or
// nothing where nothing needs help.
func (r *Record) Advice() []string {
	now := "pullgate verify " + r.Name() + " --config FILE says what the gate would decide now."

	switch {
	case r.Outcome == OutcomeError:
		return r.errorAdvice(now)
	case r.Unknown:
		return []string{"Pull the image by its tag, or run pullgate warm on it: a part is served when the gate knows " +
			"an admitted image that lists it."}
	case r.Outcome == verify.Allowed.String():
		return nil
	case r.Outcome == verify.WarnedUnverified.String():
		return []string{
			"It was admitted only because of mode: warn: it could not be verified, and enforced it would have been " +
				"a 503.",
			now,
		}
	case r.Outcome == verify.Warned.String():
		return r.refusalAdvice("It was admitted only because of mode: warn. Before you enforce: ", now)
	}
	return r.refusalAdvice("Nothing, if that is meant. ", now)
}

// errorAdvice is for a request that ended without a verdict.
func (r *Record) errorAdvice(now string) []string {
	switch {
	case r.Path != "":
		return []string{"Add the registry under upstreams, or correct what names it: the image's name, or the mirror " +
			"that the client is configured with."}
	case r.Status == http.StatusNotFound:
		return []string{"Check the name: the registry says that there is no such image, or asks for credentials " +
			"that the gate has not."}
	case r.Status == http.StatusTooManyRequests:
		return []string{"Wait and pull again. If it happens often, give the gate credentials for that registry, or " +
			"raise limits.clientMisses."}
	case r.Status < http.StatusInternalServerError:
		return []string{"The image or the request has to change; the gate cannot serve it as it is."}
	}
	return []string{
		"Pull again: this is never remembered. If it stays, see what failed above: a registry that is down,",
		"or a trust root or key that is not loaded (pullgate_trust_age_seconds).",
		now,
	}
}

// refusalAdvice is for an image that was refused, or would have been.
func (r *Record) refusalAdvice(first, now string) []string {
	if r.lacksSignature() {
		return []string{
			first + "Have the image signed by one that the policy trusts (pullgate sign, cosign sign),",
			"or add the key of its signer to the policy.",
			now,
		}
	}
	return []string{
		first + "Change the policy that decides about this repository, or add one before it that trusts a signer " +
			"of this image.",
		now,
	}
}

// lacksSignature reports whether a signature is what the image was refused for,
// rather than what a policy says about its repository.
func (r *Record) lacksSignature() bool {
	return slices.ContainsFunc(r.Reasons, func(why Reason) bool {
		return why.Authority != "" || why.Code == reason.NoSignature
	})
}
