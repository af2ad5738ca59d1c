package sigs

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
)

// TestEnvelopeTypes: the type in an envelope is a part of what was signed, so
// an envelope that carries another one is refused, although the signature over
// the in-toto type would hold.
func TestEnvelopeTypes(t *testing.T) {
	t.Parallel()
	k := newKeyless(t)
	trusted := k.trust(t)
	good := k.signed(t).envelope(t, statementOf(k.image.Encoded()))
	allowed(t, trusted, good, k.image)
	for name, label := range map[string]any{
		"another type":   "application/json",
		"in capitals":    strings.ToUpper(inToto),
		"a parameter":    inToto + "; charset=utf-8",
		"a blank":        inToto + " ",
		"an empty text":  "",
		"no type at all": nil,
	} {
		t.Run(name, func(t *testing.T) {
			c := change(good, func(c *Candidate) {
				c.Payload = mutateJSON(t, c.Payload, func(m map[string]any) { m["payloadType"] = label })
			})
			denied(t, trusted, c, k.image, "its envelope holds no in-toto statement")
		})
	}
}

// TestStatementTypes: a trusted key that signs another kind of document with
// the fields of a statement has signed no statement.
func TestStatementTypes(t *testing.T) {
	t.Parallel()
	k := newKeyless(t)
	trusted := k.trust(t)
	s := k.signed(t)
	statement := statementOf(k.image.Encoded())
	const v1 = "https://in-toto.io/Statement/v1"
	formats := func(kind string) map[string]Candidate {
		text := strings.Replace(statement, v1, kind, 1)
		return map[string]Candidate{"envelope": s.envelope(t, text), "bundle": s.bundle(t, text)}
	}
	for _, kind := range []string{v1, "https://in-toto.io/Statement/v0.1"} {
		for format, c := range formats(kind) {
			t.Run(kind+"/"+format, func(t *testing.T) { allowed(t, trusted, c, k.image) })
		}
	}
	for name, kind := range map[string]string{
		"a later version":  "https://in-toto.io/Statement/v2",
		"in capitals":      strings.ToUpper(v1),
		"without a scheme": "in-toto.io/Statement/v1",
		"with more":        v1 + "/",
		"a layout":         "layout",
		"empty":            "",
	} {
		for format, c := range formats(kind) {
			t.Run(name+"/"+format, func(t *testing.T) {
				denied(t, trusted, c, k.image, "its payload is no in-toto statement but")
			})
		}
	}
}

// TestBundleEvidence: each version of the bundle says what its log entry must
// bring, and the other kind of evidence does not stand in for it.
func TestBundleEvidence(t *testing.T) {
	t.Parallel()
	t.Run("proof without promise", func(t *testing.T) {
		s := newStack(t)
		image := digest.FromString("an image")
		good := s.bundleBy(t, somebody, someIssuer, statementOf(image.Encoded()))
		allowed(t, identified(t, s), good, image)
		b := &protobundle.Bundle{}
		unmarshal(t, good.Payload, b)
		for _, mediaType := range []string{bundlePrefix + "+json;version=0.1", bundlePrefix + ".v0.1+json"} {
			b.MediaType = mediaType
			denied(t, identified(t, s), bundled(t, b), image, "lacks the log's promise of inclusion")
		}
	})
	t.Run("promise without proof", func(t *testing.T) {
		k := newKeyless(t)
		s := k.signed(t)
		statement := statementOf(k.image.Encoded())
		allowed(t, k.trust(t), s.bundle(t, statement), k.image)
		for _, mediaType := range []string{bundlePrefix + "+json;version=0.2", bundleV03} {
			c := s.bundle(t, statement, func(b *protobundle.Bundle) { b.MediaType = mediaType })
			denied(t, k.trust(t), c, k.image, "lacks the log's proof of inclusion")
		}
	})
}
