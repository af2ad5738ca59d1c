// Package reason is the vocabulary of refusals: a closed list of codes for
// programs, and a sentence for the person whose pull was refused. It knows
// nothing of policies, signatures or registries, and must not decide anything.
package reason

import "slices"

// Code says of what kind a reason is. Codes are part of the decision record:
// docs/decisions.md lists them, a code keeps its meaning, and its sentence may
// change. The zero value is a reason that was recorded without one.
type Code string

// What keeps the gate from asking any authority.
const (
	// NoPolicy means that no policy matches the image, and the default is not to allow.
	NoPolicy Code = "no_policy"
	// StaticDeny means that a policy refuses this repository or this digest in so many words.
	StaticDeny Code = "static_deny"
	// Canary means that the image is the one that is always refused, to show that a node asks the gate.
	Canary Code = "canary"
	// Expired means that a static allow has ended.
	Expired Code = "expired"
	// UnknownPart means that no admitted image is known to list this part.
	UnknownPart Code = "unknown_part"
	// ParentRefused means that the manifest that lists this part is refused.
	ParentRefused Code = "parent_refused"
	// Unverified means that the image could not be verified, and only mode: warn admitted it.
	Unverified Code = "unverified"
)

// What the search for signatures found, or did not.
const (
	// NoSignature means that there was nothing that claims to be a signature.
	NoSignature Code = "no_signature"
	// NotExamined means that something was there and none of it could be examined.
	NotExamined Code = "not_examined"
	// OnlyAtGitHub is a hint: attestations that only GitHub's API has are not seen.
	OnlyAtGitHub Code = "only_at_github"
	// Limit means that something is larger, or more, than the limits allow.
	Limit Code = "limit"
	// NotShown means that the registry refuses to show where signatures would be, although the image can be read.
	NotShown Code = "not_shown"
	// Missing means that a signature is listed that the registry does not have.
	Missing Code = "missing"
)

// Why a candidate does not count, in the order of the steps it is put through:
// of several candidates, the one that came furthest says most about what is
// wrong.
const (
	// Unverifiable means that a step failed that has no code of its own.
	Unverifiable Code = "unverifiable"
	// Unreadable means that a document is not of the format it claims to be.
	Unreadable Code = "unreadable"
	// OtherImage means that a signature is about another image.
	OtherImage Code = "other_image"
	// WrongType means that it is an attestation where a signature is needed, or the reverse.
	WrongType Code = "wrong_type"
	// WrongScheme means that a key made it where a certificate is needed, or the reverse.
	WrongScheme Code = "wrong_scheme"
	// OtherKey means that another key made it, or that it was altered.
	OtherKey Code = "other_key"
	// WrongIdentity means that its certificate names another identity.
	WrongIdentity Code = "wrong_identity"
	// Certificate means that its certificate is unfit, ended, or not of a trusted authority.
	Certificate Code = "certificate"
	// LogEntry means that no transparency log entry proves it.
	LogEntry Code = "log_entry"
	// Timestamp means that no trusted timestamp proves when it was made.
	Timestamp Code = "timestamp"
	// NotLoaded means that a trust root or a key has not been loaded yet.
	NotLoaded Code = "not_loaded"
	// Annotation means that a signed annotation that the policy demands is missing or different.
	Annotation Code = "annotation"
	// Attestation means that an attestation is there and is not as the policy demands.
	Attestation Code = "attestation"
)

// What the signatures that count do not satisfy together.
const (
	// NoAttestation means that an attestation that the policy demands is not there.
	NoAttestation Code = "no_attestation"
	// SignerCounted means that the signer was already counted for another authority.
	SignerCounted Code = "signer_counted"
	// Threshold means that fewer authorities have signed than the policy requires.
	Threshold Code = "threshold"
)

// steps are the codes of a candidate's shortcomings, as they stand above.
var steps = [...]Code{
	Unverifiable,
	Unreadable,
	OtherImage,
	WrongType,
	WrongScheme,
	OtherKey,
	WrongIdentity,
	Certificate,
	LogEntry,
	Timestamp,
	NotLoaded,
	Annotation,
	Attestation,
}

// Furthest is the one of two codes whose candidate came further on its way to
// counting. A code that is no candidate's came nowhere.
func Furthest(a, b Code) Code {
	if slices.Index(steps[:], b) > slices.Index(steps[:], a) {
		return b
	}
	return a
}

// Reason is one reason for a refusal. Its text is one line; it quotes untrusted
// text only shortened and escaped.
type Reason struct {
	Code      Code   `json:"code,omitempty"`
	Authority string `json:"authority,omitempty"` // whose reason it is; empty when none was asked
	Text      string `json:"reason"`
}

// String is the reason as a refusal says it.
func (r Reason) String() string {
	if r.Authority == "" {
		return r.Text
	}
	return r.Authority + ": " + r.Text
}
