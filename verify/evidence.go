package verify

import (
	"time"

	"github.com/pullgate/pullgate/verify/facts"
	"github.com/pullgate/pullgate/verify/sigs"
)

// storedEvidence is what the gate keeps beside the facts about an image: the
// candidates that made it count, as its registry had them at fetchedAt.
func storedEvidence(fetchedAt time.Time, candidates []sigs.Candidate) *facts.Evidence {
	e := &facts.Evidence{FetchedAt: fetchedAt}
	for _, c := range candidates {
		e.Signatures = append(e.Signatures, facts.Signature{
			Format:      formatOf(c.Kind),
			Source:      c.Source,
			Payload:     c.Payload,
			Annotations: c.Annotations,
		})
	}
	return e
}

// candidates are stored signatures, to be verified again.
func candidates(stored []facts.Signature) []sigs.Candidate {
	list := make([]sigs.Candidate, 0, len(stored))
	for _, s := range stored {
		list = append(list, sigs.Candidate{
			Kind:        kindOf(s.Format),
			Source:      s.Source,
			Payload:     s.Payload,
			Annotations: s.Annotations,
		})
	}
	return list
}

// formatOf is what the state calls a kind of signature.
func formatOf(kind sigs.Kind) facts.Format {
	switch kind {
	case sigs.Legacy:
		return facts.SimpleSigning
	case sigs.Bundle:
		return facts.Bundle
	case sigs.Envelope:
		return facts.Envelope
	}
	return 0
}

// kindOf is the kind that a stored signature is read as. A format that this
// gate does not know has none, and such a signature counts for nothing.
func kindOf(format facts.Format) sigs.Kind {
	switch format {
	case facts.SimpleSigning:
		return sigs.Legacy
	case facts.Bundle:
		return sigs.Bundle
	case facts.Envelope:
		return sigs.Envelope
	}
	return 0
}
