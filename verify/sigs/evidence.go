package sigs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/digitorus/pkcs7"

	"github.com/pullgate/pullgate/verify/oci"
	"github.com/pullgate/pullgate/verify/reason"
)

// Bounds on evidence. An RSA key from outside costs time that grows with the
// cube of its size, and no context stops it.
const (
	maxRSABits     = 8192
	maxCertificate = 16 << 10 // DER
	maxLogBody     = 64 << 10
	maxLogField    = 32 << 10 // one text in a log entry's body: a PEM certificate of RSA-8192 in base64 is some 6 KiB
	maxProofHashes = 64
	maxCheckpoint  = 16 << 10
	maxTimestamp   = 16 << 10
	maxAnnotation  = 128 << 10
)

// count counts the evidence before any of it is looked at.
func (e *entity) count() error {
	switch {
	case len(e.logEntries) > maxLogEntries:
		return fmt.Errorf("its bundle holds more than %d log entries", maxLogEntries)
	case len(e.stamps) > maxTimestamps:
		return fmt.Errorf("its bundle holds more than %d timestamps", maxTimestamps)
	case len(e.certificates) > maxCertificates:
		return fmt.Errorf("its bundle holds more than %d certificates", maxCertificates)
	}
	return nil
}

// prove reads the evidence, once: it counts and measures all of it before any
// is computed with, and parses the certificates.
func (e *entity) prove() error {
	if !e.proved {
		e.proved = true
		e.broken = because(reason.Certificate, e.evidence())
	}
	return e.broken
}

func (e *entity) evidence() error {
	if e.annotations != nil {
		if err := e.annotated(); err != nil {
			return because(reason.Unreadable, err)
		}
	}
	if err := e.count(); err != nil {
		return because(reason.Limit, err)
	}
	if e.bundled && len(e.logEntries) > 0 {
		switch {
		case e.version == "v0.1" && !e.HasInclusionPromise():
			return because(
				reason.LogEntry,
				errors.New("its bundle is of version 0.1 and lacks the log's promise of inclusion"),
			)
		case e.version != "v0.1" && !e.HasInclusionProof():
			return because(reason.LogEntry, errors.New("its bundle lacks the log's proof of inclusion"))
		}
	}
	if e.certified && len(e.certificates) == 0 {
		return errors.New("it says that a certificate's owner signed, and brings none")
	}
	for i, raw := range e.certificates {
		if len(raw) == 0 || len(raw) > maxCertificate {
			return fmt.Errorf("its certificate is empty or larger than %d KiB", maxCertificate>>10)
		}
		c, err := x509.ParseCertificate(raw)
		if err != nil {
			return errors.New("its certificate cannot be read")
		}
		if err := boundKey(c.PublicKey); err != nil {
			return err
		}
		switch {
		case i == 0:
			if err := maySign(c); err != nil {
				return err
			}
			e.leaf = c
		case !c.IsCA:
			return errors.New("its certificate chain holds a certificate that is no CA's")
		default:
			e.chain = append(e.chain, c)
		}
	}
	if e.leaf != nil {
		e.chain = upwards(e.leaf, e.chain)
	}
	for _, t := range e.logEntries {
		proof := t.GetInclusionProof()
		if len(proof.GetHashes()) > maxProofHashes || len(proof.GetCheckpoint().GetEnvelope()) > maxCheckpoint {
			return because(reason.LogEntry, errors.New("its log entry's proof is larger than any is"))
		}
		if err := boundLogBody(t.GetCanonicalizedBody()); err != nil {
			return because(reason.LogEntry, err)
		}
	}
	for _, token := range e.stamps {
		if err := boundTimestamp(token); err != nil {
			return because(reason.Timestamp, err)
		}
	}
	return nil
}

// maySign reports whether a certificate is one to sign code with. A chain is
// verified for that use, but where a certificate names no use at all, for any.
func maySign(c *x509.Certificate) error {
	switch {
	case c.IsCA:
		return errors.New("its certificate is an authority's, not a signer's")
	case !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageCodeSigning):
		return errors.New("its certificate is not for signing code (extended key usage codeSigning)")
	}
	return nil
}

// upwards lists those of chain that lead from leaf towards a root, one of each
// name: among several of one name there are as many paths as permutations, and
// each step of each is a signature to verify. A root comes from the policy or
// not at all.
func upwards(leaf *x509.Certificate, chain []*x509.Certificate) []*x509.Certificate {
	var path []*x509.Certificate
	seen := map[string]bool{}
	for at := leaf; at != nil; {
		var next *x509.Certificate
		for _, c := range chain {
			if next == nil && bytes.Equal(c.RawSubject, at.RawIssuer) && !bytes.Equal(c.RawSubject, c.RawIssuer) &&
				!seen[string(c.RawSubject)] {
				next = c
			}
		}
		if at = next; at != nil {
			seen[string(at.RawSubject)] = true
			path = append(path, at)
		}
	}
	return path
}

// costly reports evidence beyond what a signature brings as a rule: one log
// entry, one timestamp, and a P-256 key. sigstore-go looks at all of it before
// it looks at the certificate's chain, and anybody can name anybody in a
// certificate of his own making.
func (e *entity) costly() bool {
	key, ok := e.leaf.PublicKey.(*ecdsa.PublicKey)
	return len(e.logEntries) > 1 || len(e.stamps) > 1 || !ok || key.Curve != elliptic.P256()
}

func boundKey(public any) error {
	if key, ok := public.(*rsa.PublicKey); ok && key.N.BitLen() > maxRSABits {
		return fmt.Errorf("it brings an RSA key of %d bits: %d at most", key.N.BitLen(), maxRSABits)
	}
	return nil
}

// boundLogBody looks at the key in a log entry's body: the entry's signature is
// checked while it is parsed. A log keeps what was signed as a digest; an entry
// that brings the signed document itself is only proposed to a log, and all
// its keys would be tried on all its signatures.
func boundLogBody(body []byte) error {
	if len(body) > maxLogBody {
		return fmt.Errorf("its log entry is larger than %d KiB", maxLogBody>>10)
	}
	if err := oci.CheckUnique(body, maxDepth, maxTokens); err != nil {
		return fmt.Errorf("its log entry is %w", err)
	}
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		return errors.New("its log entry cannot be read")
	}
	keys := 0
	if err := boundValue(v, &keys); err != nil {
		return err
	}
	if keys > 1 {
		return errors.New("its log entry names several keys")
	}
	return nil
}

// boundValue bounds everything in v, and counts the keys.
func boundValue(v any, keys *int) error {
	switch v := v.(type) {
	case string:
		if len(v) > maxLogField {
			return errors.New("its log entry holds something larger than any key")
		}
		return boundEncodedKey(v, keys)
	case []any:
		for _, one := range v {
			if err := boundValue(one, keys); err != nil {
				return err
			}
		}
	case map[string]any:
		for name, one := range v {
			if strings.EqualFold(name, "proposedContent") || strings.EqualFold(name, "payload") {
				return errors.New("its log entry is no log's: it holds what was signed")
			}
			if err := boundValue(one, keys); err != nil {
				return err
			}
		}
	}
	return nil
}

// boundEncodedKey checks a text that may be a key or a certificate: base64 of
// DER, of PEM, or, as intoto entries have it, PEM encoded twice.
func boundEncodedKey(text string, keys *int) error {
	raw := []byte(text)
	for range 3 {
		if block, rest := pem.Decode(raw); block != nil {
			if block, _ := pem.Decode(rest); block != nil {
				return errors.New("its log entry names several keys")
			}
			return boundDER(block.Bytes, keys)
		}
		decoded, err := base64.StdEncoding.DecodeString(string(raw))
		if err != nil {
			return nil
		}
		raw = decoded
		if err := boundDER(raw, keys); err != nil {
			return err
		}
	}
	return nil
}

func boundDER(der []byte, keys *int) error {
	var public any
	if c, err := x509.ParseCertificate(der); err == nil {
		public = c.PublicKey
	} else if key, err := x509.ParsePKIXPublicKey(der); err == nil {
		public = key
	} else if key, err := x509.ParsePKCS1PublicKey(der); err == nil {
		public = key
	} else {
		return nil
	}
	*keys++
	return boundKey(public)
}

// boundTimestamp looks at the certificates in an RFC 3161 response: the token's
// signature is checked with one of them while it is parsed.
func boundTimestamp(response []byte) error {
	if len(response) > maxTimestamp {
		return fmt.Errorf("its timestamp is larger than %d KiB", maxTimestamp>>10)
	}
	var r struct {
		Status asn1.RawValue
		Token  asn1.RawValue `asn1:"optional"`
	}
	if _, err := asn1.Unmarshal(response, &r); err != nil {
		return errors.New("its timestamp cannot be read")
	}
	token, err := pkcs7.Parse(r.Token.FullBytes)
	if err != nil {
		return errors.New("its timestamp cannot be read")
	}
	if len(token.Certificates) > maxCertificates {
		return fmt.Errorf("its timestamp holds more than %d certificates", maxCertificates)
	}
	if len(token.Signers) != 1 { // RFC 3161, section 2.4.2; each would be verified, more than once
		return errors.New("its timestamp does not have exactly one signer")
	}
	names := map[string]bool{}
	for _, c := range token.Certificates {
		if err := boundKey(c.PublicKey); err != nil {
			return err
		}
		if names[string(c.RawSubject)] { // as with upwards: one path, not all permutations
			return errors.New("its timestamp holds two certificates of one name")
		}
		names[string(c.RawSubject)] = true
	}
	return nil
}
