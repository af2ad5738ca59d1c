package verify

import (
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/facts"
	"github.com/pullgate/pullgate/verify/judge"
	"github.com/pullgate/pullgate/verify/reason"
)

// Outcome is what the gate found. The zero value denies.
type Outcome int

const (
	// Denied refuses: the policy was asked and said no.
	Denied Outcome = iota
	// Allowed admits: a trusted signature, a static allow, or a part of an admitted image.
	Allowed
	// Warned admits what would have been denied, under mode: warn.
	Warned
	// WarnedUnverified admits what could not be verified, under mode: warn.
	WarnedUnverified
)

// String is the outcome as decision logs and metrics spell it.
func (o Outcome) String() string {
	switch o {
	case Allowed:
		return "allowed"
	case Warned:
		return "warned"
	case WarnedUnverified:
		return "warned_unverified"
	}
	return "denied"
}

// Reason is what one authority found, or, without an authority, what kept the
// gate from asking any.
type Reason = reason.Reason

// Finding is what one authority of the deciding policy came to, passed or not.
type Finding = judge.Finding

// SignerReferrersIndex is the Signer of a list of referrers, which is admitted
// by its tag alone.
const SignerReferrersIndex = "referrers index"

// Verdict is the answer about one digest in one repository. It is a value:
// safe to copy and to share. The zero Verdict denies.
type Verdict struct {
	Outcome Outcome
	Image   policy.Repository
	Digest  digest.Digest // empty when the repository was refused before the upstream was asked
	Tag     string        // what was asked for, when Digest is empty
	Policy  string        // name of the policy that decided

	// PolicyHash identifies everything the deciding policy said; empty when no
	// policy was asked.
	PolicyHash string
	// Findings are the authorities' in the policy's order; empty when none was
	// asked, as for a static decision or a part of an image.
	Findings []Finding

	// Parent is the manifest this one was asked for as a part of; empty when it
	// was judged by itself.
	Parent digest.Digest

	Reasons []Reason // why not, authority by authority; empty when allowed
	Signer  string   // who made it count: "key release (cosign.pub)", "static: allow", "part of sha256:…"
	Size    int64    // of a blob, as the manifest that lists it says; 0: not known
	Unknown bool     // a part of no image this gate has admitted

	// CacheHit is true when nothing was fetched or verified for this answer.
	CacheHit bool
	// Upstream is how long this answer waited for upstream registries.
	Upstream time.Duration
}

// judgement is a Verdict with what only the gate needs to know of it: whether
// it may be kept, and what it may be used for.
type judgement struct {
	Verdict

	until       time.Time       // not to be used from memory any longer
	final       bool            // a static decision on this very digest: no mode and no parent overrules it
	ownChildren bool            // the deciding policy keeps this index from admitting its children
	tooDeep     bool            // an index further out than maxNesting was not asked
	falseParent bool            // what was remembered to list it does not
	signed      *facts.Evidence // what made it count, to be kept beside the facts
}

// verdictOf is a denial by p of d, without its reasons: what every verdict of p
// starts from.
func (q *question) verdictOf(p *policy.Policy, d digest.Digest) Verdict {
	return Verdict{
		Image:      q.repo,
		Digest:     d,
		Policy:     p.Name,
		PolicyHash: p.Hash,
	}
}

// Admitted reports whether the bytes may leave the gate.
func (v Verdict) Admitted() bool { return v.Outcome != Denied }

// Message is the refusal as a person reads it, whole: many clients print
// nothing else.
func (v Verdict) Message() string {
	name := v.Image.String() + "@" + v.Digest.String()
	if v.Digest == "" {
		name = v.Image.String() + ":" + v.Tag
	}
	if v.Unknown {
		return name + " is not part of an image this gate has admitted; pull it by tag, or run `pullgate warm <image>`"
	}

	reasons := make([]string, 0, len(v.Reasons))
	for _, r := range v.Reasons {
		reasons = append(reasons, r.String())
	}
	return fmt.Sprintf("%s refused by policy %q: %s", name, v.Policy, strings.Join(reasons, "; "))
}
