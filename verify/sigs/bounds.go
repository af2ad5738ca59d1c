package sigs

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/digitorus/pkcs7"

	"github.com/pullgate/pullgate/verify/oci"

	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
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

func boundKey(public any) error {
	if key, ok := public.(*rsa.PublicKey); ok && key.N.BitLen() > maxRSABits {
		return fmt.Errorf("it brings an RSA key of %d bits: %d at most", key.N.BitLen(), maxRSABits)
	}

	return nil
}

// boundLogEntry bounds a log entry's proof and looks at its body.
func boundLogEntry(t *protorekor.TransparencyLogEntry) error {
	proof := t.GetInclusionProof()
	if len(proof.GetHashes()) > maxProofHashes || len(proof.GetCheckpoint().GetEnvelope()) > maxCheckpoint {
		return errors.New("its log entry's proof is larger than any is")
	}

	return boundLogBody(t.GetCanonicalizedBody())
}

var errSeveralKeys = errors.New("its log entry names several keys")

// boundLogBody looks at the key in a log entry's body: the entry's signature is
// checked while it is parsed. An entry that is only proposed to a log would have
// all its keys tried on all its signatures. A log keeps what was signed as a
// digest; one of its own may keep the payload, too (intoto 0.0.2).
func boundLogBody(body []byte) error {
	if len(body) > maxLogBody {
		return fmt.Errorf("its log entry is larger than %d KiB", maxLogBody>>10)
	}
	if err := oci.CheckUnique(body, maxDepth, maxTokens); err != nil {
		return fmt.Errorf("its log entry is %w", err)
	}
	var v any
	if json.Unmarshal(body, &v) != nil {
		return errors.New("its log entry cannot be read")
	}

	keys, err := boundValue(v)
	if err != nil {
		return err
	}
	if keys > 1 {
		return errSeveralKeys
	}
	return nil
}

// boundValue bounds everything in v, and counts the keys.
func boundValue(v any) (keys int, err error) {
	switch v := v.(type) {
	case string:
		if len(v) > maxLogField {
			return 0, errors.New("its log entry holds something larger than any key")
		}
		return boundEncodedKey(v)

	case []any:
		for _, one := range v {
			more, err := boundValue(one)
			if err != nil {
				return 0, err
			}
			keys += more
		}

	case map[string]any:
		for name, one := range v {
			if strings.EqualFold(name, "proposedContent") {
				return 0, errors.New("its log entry is no log's: it is only proposed to one")
			}
			if _, ok := one.(string); ok && strings.EqualFold(name, "payload") {
				continue // what was signed, as large as the body may be, and no key
			}
			more, err := boundValue(one)
			if err != nil {
				return 0, err
			}
			keys += more
		}
	}
	return keys, nil
}

// boundEncodedKey bounds and counts the keys in a text: base64 of DER, of PEM,
// or, as intoto entries have it, PEM encoded twice.
func boundEncodedKey(text string) (keys int, err error) {
	raw := []byte(text)
	for range 3 {
		if block, rest := pem.Decode(raw); block != nil {
			if block, _ := pem.Decode(rest); block != nil {
				return 0, errSeveralKeys
			}
			more, err := boundDER(block.Bytes)
			return keys + more, err
		}

		decoded, err := base64.StdEncoding.DecodeString(string(raw))
		if err != nil {
			break // no key, or no further encoding of one
		}
		raw = decoded
		more, err := boundDER(raw)
		if err != nil {
			return 0, err
		}
		keys += more
	}
	return keys, nil
}

// boundDER bounds and counts the key that der is, or is a certificate of: none
// or one.
func boundDER(der []byte) (keys int, err error) {
	var public any
	if c, err := x509.ParseCertificate(der); err == nil {
		public = c.PublicKey
	} else if key, err := x509.ParsePKIXPublicKey(der); err == nil {
		public = key
	} else if key, err := x509.ParsePKCS1PublicKey(der); err == nil {
		public = key
	} else {
		return 0, nil
	}

	return 1, boundKey(public)
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

	seen := map[string]bool{}
	for _, c := range token.Certificates {
		if err := boundKey(c.PublicKey); err != nil {
			return err
		}
		if seen[string(c.RawSubject)] { // as with upwards: one path, not all permutations
			return errors.New("its timestamp holds two certificates of one name")
		}
		seen[string(c.RawSubject)] = true
	}
	return nil
}
