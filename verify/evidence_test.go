package verify

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/pullgate/pullgate/verify/facts"
	"github.com/pullgate/pullgate/verify/sigs"
)

func TestStoredEvidence(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for kind, format := range map[sigs.Kind]facts.Format{
		sigs.Legacy:   facts.SimpleSigning,
		sigs.Bundle:   facts.Bundle,
		sigs.Envelope: facts.Envelope,
	} {
		t.Run(fmt.Sprint(kind), func(t *testing.T) {
			found := []sigs.Candidate{{
				Kind:        kind,
				Source:      "the .sig tag",
				Payload:     []byte("payload"),
				Annotations: map[string]string{"a": "b"},
			}}

			stored := storedEvidence(at, found)

			if !stored.FetchedAt.Equal(at) || len(stored.Signatures) != 1 || stored.Signatures[0].Format != format {
				t.Errorf("stored %+v; want format %d, fetched at %s", stored, format, at)
			}
			if got := candidates(stored.Signatures); !reflect.DeepEqual(got, found) {
				t.Errorf("came back as %+v; want %+v", got, found)
			}
		})
	}

	t.Run("unknown format", func(t *testing.T) {
		got := candidates([]facts.Signature{{Format: 4, Payload: []byte("payload")}})
		if len(got) != 1 || got[0].Kind != 0 {
			t.Errorf("read as %+v; want no kind", got)
		}
	})
}
