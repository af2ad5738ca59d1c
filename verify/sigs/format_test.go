package sigs

import (
	"crypto/elliptic"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestFormats: each format has one row, and no media type is two formats'.
func TestFormats(t *testing.T) {
	t.Parallel()
	for mediaType, want := range map[string]Kind{
		MediaTypeSimpleSigning: Legacy,
		MediaTypeDSSE:          Envelope,
		bundleV03:              Bundle,
		"application/vnd.dev.sigstore.bundle+json;version=0.1": Bundle,
		"application/vnd.dev.sigstore.bundle":                  0,
		configImage:                                            0,
		"":                                                     0,
	} {
		t.Run(mediaType, func(t *testing.T) {
			if got := KindOf(mediaType); got != want {
				t.Errorf("kind %d, want %d", got, want)
			}
			var rows []Kind
			for _, f := range formats {
				if f.is(mediaType) {
					rows = append(rows, f.kind)
				}
			}
			if want == 0 && len(rows) > 0 || want != 0 && (len(rows) != 1 || rows[0] != want) {
				t.Errorf("rows %v", rows)
			}
		})
	}
	for _, kind := range []Kind{Legacy, Bundle, Envelope} {
		if f := formatOf(kind); f == nil || f.kind != kind {
			t.Errorf("kind %d has the row %+v", kind, f)
		}
	}
	if formatOf(0) != nil {
		t.Error("no kind is a format")
	}
}

// TestReaders: verification and the check of artifacts read the same bytes by one
// parser. Where one of them demands more, it is on purpose.
func TestReaders(t *testing.T) {
	t.Parallel()
	key := newECDSA(t, elliptic.P256())
	image, other := digest.FromString("an image"), digest.FromString("another")
	statement := statementOf(image.Encoded())
	dsse := func(statement string) string {
		return envelope(t, key, inToto, statement)[len(`"dsseEnvelope":`):]
	}
	bundle := func(statement string) string { return string(bundleOf(t, key, statement).Payload) }
	edit := func(text, from, to string) string {
		if !strings.Contains(text, from) {
			t.Fatalf("no %q in %s", from, text)
		}
		return strings.Replace(text, from, to, 1)
	}
	one := subject("sha256", image.Encoded(), "")
	many := statementWith(strings.Repeat(one+",", maxSubjects)+one, signPredicate, "{}")
	later := edit(statement, "Statement/v1", "Statement/v2")
	misplaced := statementWith(subject("sha256", image.Encoded(), "1"), signPredicate, "{}")
	attestation, signature := dsse(statement), payload(image.String())
	unsigned := edit(attestation, `"signatures":[`, `"signatures":[],"x":[`)
	for name, tt := range map[string]struct {
		mediaType, blob    string
		verifies, attaches bool
	}{
		"envelope":                        {MediaTypeDSSE, attestation, true, true},
		"envelope, a field more":          {MediaTypeDSSE, edit(attestation, "{", `{"x":1,`), true, false},
		"envelope, a certificate beside":  {MediaTypeDSSE, edit(attestation, `[{`, `[{"cert":"x",`), true, false},
		"envelope, two signatures":        {MediaTypeDSSE, edit(attestation, `[{`, `[{"sig":"AAAA"},{`), false, true},
		"envelope, sig not base64":        {MediaTypeDSSE, edit(attestation, `"sig":"`, `"sig":"%`), false, true},
		"envelope, key ID a number":       {MediaTypeDSSE, edit(attestation, `[{`, `[{"keyid":1,`), false, false},
		"envelope, signature a list":      {MediaTypeDSSE, edit(attestation, `[{`, `[{"sig":[1]},{`), false, false},
		"envelope, no signature":          {MediaTypeDSSE, unsigned, false, false},
		"envelope, a later statement":     {MediaTypeDSSE, dsse(later), false, true},
		"envelope, many subjects":         {MediaTypeDSSE, dsse(many), false, true},
		"envelope, annotations a number":  {MediaTypeDSSE, dsse(misplaced), false, false},
		"bundle":                          {bundleV03, bundle(statement), true, true},
		"bundle, a field more":            {bundleV03, edit(bundle(statement), "{", `{"x":1,`), false, false},
		"bundle, of a later version":      {bundleV03, edit(bundle(statement), "v0.3", "v0.4"), false, true},
		"bundle, two signatures":          {bundleV03, edit(bundle(statement), `[{`, `[{"sig":"AAAA"},{`), false, true},
		"bundle, without signatures":      {bundleV03, edit(bundle(statement), `"sig":`, `"keyid":`), false, true},
		"bundle, without its material":    {bundleV03, edit(bundle(statement), publicKey, ""), false, true},
		"bundle, a later statement":       {bundleV03, bundle(later), false, true},
		"bundle, many subjects":           {bundleV03, bundle(many), false, true},
		"bundle, annotations a number":    {bundleV03, bundle(misplaced), false, false},
		"payload":                         {MediaTypeSimpleSigning, signature, true, true},
		"payload, a field more":           {MediaTypeSimpleSigning, edit(signature, "{", `{"x":1,`), true, true},
		"payload, bytes after it":         {MediaTypeSimpleSigning, signature + "x", false, false},
		"payload, of another image's sum": {MediaTypeSimpleSigning, payload(other.String()), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Read(Candidate{
				Kind:        KindOf(tt.mediaType),
				Payload:     []byte(tt.blob),
				Annotations: map[string]string{AnnotationSignature: "AAAA"},
			}, image)
			if (err == nil) != tt.verifies {
				t.Errorf("read for verification: %v", err)
			}
			err = CheckLayer(Blob{MediaType: tt.mediaType}, []byte(tt.blob), image)
			if (err == nil) != tt.attaches {
				t.Errorf("checked as an artifact's layer: %v", err)
			}
		})
	}
}
