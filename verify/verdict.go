package verify

import (
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/facts"
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
type Reason struct {
	Authority string `json:"authority,omitempty"`
	Reason    string `json:"reason"`
}

// String is the reason as a refusal says it.
func (r Reason) String() string {
	if r.Authority == "" {
		return r.Reason
	}
	return r.Authority + ": " + r.Reason
}

// Finding is what one authority of the deciding policy came to, passed or not.
type Finding struct {
	Authority string `json:"authority"`
	Passed    bool   `json:"passed"`
	Detail    string `json:"detail"` // who signed, or why nothing counts
}

// Verdict is the answer about one digest in one repository. It is a value:
// safe to copy and to share. The zero Verdict denies.
type Verdict struct {
	Outcome Outcome
	Image   policy.Repository
	Digest  digest.Digest // empty when the repository was refused before anybody looked
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

	until       time.Time       // an allow's end, zero: by ttl alone
	ownChildren bool            // the deciding policy keeps this index from admitting its children
	final       bool            // a static decision on this very digest: no parent overrules it
	stale       bool            // the registry could not be asked: kept signatures were verified
	ends        time.Time       // an allow's end by a certificate; zero: none
	signed      *facts.Evidence // what made it count, to be kept beside the facts
	quick       bool            // nothing was found at all: ask again soon, a signature may follow
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

// under applies a warn mode to a denial. Nothing weakens a written-out static deny.
func (v Verdict) under(p *policy.Policy, gate policy.Mode) Verdict {
	if v.Outcome == Denied && !p.DeniesInWriting() && (p.Mode == policy.Warn || gate == policy.Warn) {
		v.Outcome = Warned
	}
	return v
}
