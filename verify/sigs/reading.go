package sigs

import (
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/verify/reason"
)

// Candidate is one thing that claims to be a signature. All of it is untrusted.
type Candidate struct {
	Kind        Kind
	Source      string // where it was found, for reasons
	Payload     []byte // the simple-signing payload, the bundle or the envelope
	Annotations map[string]string
}

// Reading is a candidate taken apart, bounded and found to be about one image.
// Nothing of it is verified. One goroutine at a time may use it.
type Reading struct {
	content content
	image   digest.Digest
	says    Signer // what was signed; who signed it is not known yet
}

// Read takes c apart; what it signs must be about exactly image. It computes no
// signature. Errors are as Authority.Verify's.
func Read(c Candidate, image digest.Digest) (*Reading, error) {
	r, err := read(c, image)
	return r, because(reason.Unreadable, err)
}

func read(c Candidate, image digest.Digest) (*Reading, error) {
	if c.Kind == Legacy && len(c.Payload) > MaxPayload {
		return nil, errTooLarge
	}

	f := formatOf(c.Kind)
	if f == nil {
		return nil, errors.New("it is of no known format")
	}
	opened, err := f.open(c)
	if err != nil {
		return nil, err
	}

	says, err := opened.says(image)
	if err != nil {
		return nil, err
	}
	// Only now is it known whether a bundle or an envelope is an attestation,
	// which may be larger.
	if says.PredicateType == signPredicate && len(c.Payload) > MaxPayload {
		return nil, errTooLarge
	}

	return &Reading{content: opened, image: image, says: says}, nil
}

var errTooLarge = because(
	reason.Limit,
	fmt.Errorf("it is larger than %d KiB, and no signature is", MaxPayload>>10),
)
