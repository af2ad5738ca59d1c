package sigs

import (
	"strings"

	"github.com/opencontainers/go-digest"
)

// Kind is the format of a candidate.
type Kind int

const (
	// Legacy is a simple-signing payload with its signature in an annotation.
	Legacy Kind = iota + 1
	// Bundle is a Sigstore bundle: a signature or an attestation.
	Bundle
	// Envelope is a legacy attestation: a DSSE envelope with its evidence in
	// annotations.
	Envelope
)

// format is one way to write signatures and attestations. Verification and the
// check of signature artifacts read a format's bytes by the same parser; what
// one of them demands beyond that stands in its own column's function.
type format struct {
	kind Kind

	// is reports whether a layer of this media type holds the format.
	is func(mediaType string) bool

	// open takes a candidate apart for verification. It bounds what it finds and
	// computes no signature.
	open func(Candidate) (content, error)

	// subjects lists the digests that a blob names, as "algorithm:hex", and
	// refuses a blob that is not the format from its first byte to its last.
	// What it lists is untrusted text.
	subjects func(blob []byte) ([]string, error)
}

// content is a candidate taken apart, in whichever format it came. Nothing of
// it is verified.
type content interface {
	// says reads what was signed; an error means that it is not about image.
	says(image digest.Digest) (Signer, error)

	// verify returns says with who of the authority signed it, or the reason why
	// none of them did.
	verify(a *Authority, image digest.Digest, says Signer) (Signer, error)

	// likelihood is how likely it is that a trusts who made it, by its own word.
	likelihood(a *Authority) Likelihood
}

// formats lists every format that is read here. Another one is another row.
var formats = [...]format{
	{
		kind:     Legacy,
		is:       func(mediaType string) bool { return mediaType == MediaTypeSimpleSigning },
		open:     openLegacy,
		subjects: payloadSubjects,
	},
	{
		kind:     Envelope,
		is:       func(mediaType string) bool { return mediaType == MediaTypeDSSE },
		open:     openEnvelope,
		subjects: envelopeSubjects,
	},
	{
		kind:     Bundle,
		is:       IsBundle,
		open:     openBundle,
		subjects: bundleSubjects,
	},
}

// KindOf returns the format that a layer of this media type is read as, or 0 if
// it is read as none.
func KindOf(mediaType string) Kind {
	for i := range formats {
		if formats[i].is(mediaType) {
			return formats[i].kind
		}
	}

	return 0
}

// formatOf returns the row of a kind, or nil if it has none.
func formatOf(kind Kind) *format {
	for i := range formats {
		if formats[i].kind == kind {
			return &formats[i]
		}
	}

	return nil
}

// IsBundle reports whether a media or artifact type is a Sigstore bundle's, in
// either spelling: ".bundle.v0.3+json" or ".bundle+json;version=0.1".
func IsBundle(mediaType string) bool {
	rest, ok := strings.CutPrefix(mediaType, bundlePrefix)

	return ok && (strings.HasPrefix(rest, ".v0.") || strings.HasPrefix(rest, "+json"))
}
