// Package policy turns YAML into a compiled, ordered Set of policies and says
// which one decides about an image. It is pure: it reads files while loading
// and nothing after that, and knows no network, no registry and no signature
// format.
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
	Name  string // unique in its Set
	Where string // file:line of the entry, for messages

	Images  []Glob   // repositories it matches; with Digests too, both must match
	Digests []string // digests it matches, canonical "sha256:…" form

	Static  Action
	Mode    Mode
	Expires time.Time // zero: never; otherwise the first instant at which the exemption no longer holds

	Authorities []Authority       // never empty when Static is Verify
	Threshold   int               // how many different authorities must pass; at least 1 when Static is Verify
	Annotations map[string]string // signed annotations that must be present on a counting signature

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

// DeniesInWriting reports a static deny that somebody wrote, as against the
// default action's: no warn mode weakens it.
func (p *Policy) DeniesInWriting() bool { return p.Static == Deny && p.Where != "" }

// Authority is one trusted signer: any of its keys.
type Authority struct {
	Name string
	Keys []Key
}

// Key is one public key, parsed and checked at load: ECDSA P-256, P-384 or
// P-521, RSA of 2048 to 8192 bits, or Ed25519.
type Key struct {
	Public crypto.PublicKey
	Source string // file name, or "inline", for messages
	ID     string // lower-case hex SHA-256 of the DER SubjectPublicKeyInfo
}

// Client is who asks, as far as policies may see it.
type Client struct {
	Addr string // remote IP address without port
}
