// Package policy turns YAML into a compiled, ordered Set of policies and says
// which one decides about an image. It is pure: it reads files while loading
// and nothing after that. It must not know a network, a registry or a signature
// format; verify asks it what to demand, and finds out by itself.
package policy

import (
	"crypto"
	"time"
)

// Mode says what a refusal does. The zero value enforces.
type Mode int

const (
	// Enforce refuses with 403.
	Enforce Mode = iota
	// Warn admits, says so in a Warning header and in the decision log.
	Warn
)

// Action is a decision made without verification. The zero value is none:
// the authorities decide.
type Action int

const (
	// Verify leaves the decision to the authorities.
	Verify Action = iota
	// Allow admits without verification, until Policy.Expires.
	Allow
	// Deny refuses without verification; no mode weakens it.
	Deny
)

// Policy is one compiled entry of the list. It is immutable after loading and
// safe for concurrent use.
type Policy struct {
	Name  string   // unique in its Set
	Where Position // of the entry, for messages; zero for the default action

	Images  []Glob    // repositories it matches; with Digests too, both must match
	Digests []string  // digests it matches, canonical "sha256:…" form
	Clients []Clients // who asks; none: everybody. What it says of images is for these alone

	Static  Action
	Mode    Mode
	Expires time.Time // zero: never; otherwise the first instant at which the exemption no longer holds

	Authorities []Authority       // never empty when Static is Verify
	Threshold   int               // how many different authorities must pass; at least 1 when Static is Verify
	Annotations map[string]string // signed annotations that must be present on a counting signature

	// Attestations must all be there, besides the authorities' signatures.
	Attestations []Attestation

	// SignatureRepository is where signatures are kept instead of beside the
	// image, as COSIGN_REPOSITORY; the zero value means beside the image.
	SignatureRepository Repository

	// OwnChildren demands that a platform image of an admitted index carries
	// its own signature (children: own). By default the index admits it.
	OwnChildren bool

	// Hash identifies everything above that can change a verdict; part of
	// every verdict's cache key.
	Hash string
}

// IsExplicitDeny reports whether p is a `static: deny` from the configuration;
// warn mode never overrides it.
func (p *Policy) IsExplicitDeny() bool { return p.Static == Deny && !p.Where.IsZero() }

// DeniesDigests reports a static deny that names digests. It reaches the parts of
// these manifests.
func (p *Policy) DeniesDigests() bool { return p.IsExplicitDeny() && len(p.Digests) > 0 }

// Authority is one trusted signer: any of its keys, any of its keyless
// identities, or any certificate of its own PKI. Exactly one of the three is set.
type Authority struct {
	Name string

	Keys       []Key        // public keys
	KMS        []string     // references to keys in a key service ("awskms://…"), which count beside Keys
	Identities []Identity   // of Fulcio certificates
	PKI        *Certificate // a PKI of one's own

	// TrustRoots name the roots whose logs, timestamps and, for identities,
	// certificates count. Empty for keys and PKIs that ask for no such evidence.
	TrustRoots []string

	Accept   []string // predicate types that count as its signature; SignaturePredicate by default; never empty
	Required bool     // must be among those that pass

	// TransparencyLog and Timestamp demand a log entry and an RFC 3161
	// timestamp of a root in TrustRoots, beyond what the root itself asks for.
	TransparencyLog bool
	Timestamp       bool
}

// Kind is the authority's sort as reasons name it: key, keyless or certificate.
func (a *Authority) Kind() string {
	switch {
	case len(a.Identities) > 0:
		return "keyless"
	case a.PKI != nil:
		return "certificate"
	}
	return "key"
}

// Key is one public key, parsed and checked at load: ECDSA P-256, P-384 or
// P-521, RSA of 2048 to 8192 bits, or Ed25519.
type Key struct {
	Public crypto.PublicKey
	Source string // file name, or "inline", for messages
	ID     string // lower-case hex SHA-256 of the DER SubjectPublicKeyInfo
}
