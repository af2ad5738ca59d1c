package facts

import (
	"reflect"
	"testing"
	"time"
)

// written is a record of evidence as the first version of this state wrote it.
const written = `{"at":"2026-01-01T00:00:00Z","signatures":[` +
	`{"Kind":1,"Source":"the .sig tag","Payload":"cGF5bG9hZA==","Annotations":{"a":"b"}},` +
	`{"Kind":2,"Source":"the referrers API","Payload":"YnVuZGxl","Annotations":null},` +
	`{"Kind":3,"Source":"the .att tag","Payload":null,"Annotations":{}}]}`

// TestEvidenceRecord: states that were written before are read, and what is
// written today is read by the programs of then.
func TestEvidenceRecord(t *testing.T) {
	t.Parallel()
	want := Evidence{
		FetchedAt: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		Signatures: []Signature{
			{
				Format:      SimpleSigning,
				Source:      "the .sig tag",
				Payload:     []byte("payload"),
				Annotations: map[string]string{"a": "b"},
			},
			{Format: Bundle, Source: "the referrers API", Payload: []byte("bundle")},
			{Format: Envelope, Source: "the .att tag", Annotations: map[string]string{}},
		},
	}

	if got := ReadEvidence([]byte(written)); !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v; want %+v", got, want)
	}
	if got, err := want.Record(); err != nil || string(got) != written {
		t.Errorf("wrote %s, %v; want %s", got, err, written)
	}
}

// TestForeignEvidence: a record that is none is no evidence, whatever it holds.
func TestForeignEvidence(t *testing.T) {
	t.Parallel()
	b := openBolt(t, t.TempDir(), 1<<20)
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f := indexOf(0)
	for name, record := range map[string]string{
		"no JSON":      "payload",
		"torn":         written[:len(written)-1],
		"another type": `{"at":"2026-01-01T00:00:00Z","signatures":[{"Kind":"1"}]}`,
		"no time":      `{"signatures":[{"Kind":1}]}`,
		"empty":        "",
	} {
		t.Run(name, func(t *testing.T) {
			b.write(t, imageKey(signaturesRecord, f.Manifest.Digest), []byte(record))
			got, err := b.Evidence(t.Context(), testRepo, f.Manifest.Digest, at, time.Hour)
			if err != nil || len(got.Signatures) != 0 {
				t.Errorf("%v, %v; want none", got, err)
			}
		})
	}
}
