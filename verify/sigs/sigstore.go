package sigs

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/pullgate/pullgate/verify/reason"
)

// newVerifier is sigstore-go's, which need not build the predicate of a large
// attestation: that is not read there.
func newVerifier(material root.TrustedMaterial, options ...verify.VerifierOption) (*verify.Verifier, error) {
	return verify.NewVerifier(material, append(options, verify.WithoutStatementPredicate())...)
}

// run has sigstore-go verify everything of e: evidence, certificate, signature.
func run(v *verify.Verifier, e *entity, image digest.Digest, who verify.PolicyOption) error {
	raw, err := hex.DecodeString(image.Encoded())
	if err != nil {
		return errors.New("the image's digest is not hex")
	}

	if _, err = v.Verify(e, verify.NewPolicy(e.artifact(image, raw), who)); err != nil {
		return plainly(err)
	}
	return nil
}

// step is one step of sigstore-go's verification.
type step struct {
	prefix string // of sigstore-go's error
	code   reason.Code
	words  string
}

var (
	stepLog       = step{"failed to verify log inclusion", reason.LogEntry, "no transparency log entry proves it"}
	stepTimestamp = step{
		"failed to verify timestamps",
		reason.Timestamp,
		"no trusted timestamp proves when it was made",
	}
	stepCertificate = step{
		"failed to verify leaf certificate",
		reason.Certificate,
		"its certificate was not issued by the trusted authority, or was not valid when it was made",
	}
	stepCertificateLog = step{
		"failed to verify signed certificate timestamp",
		reason.Certificate,
		"its certificate is in no trusted certificate log",
	}
	stepSignature = step{"failed to verify signature", reason.OtherKey, "it was made by another key, or altered"}
)

// failed says that the step failed, for a person. text is sigstore-go's error
// without the step's own prefix.
func (s step) failed(text string) error {
	return because(s.code, fmt.Errorf("%s%s", s.words, detail(text)))
}

// plainly says which step of sigstore-go's verification failed, for a person.
func plainly(err error) error {
	text := err.Error()
	for _, s := range []step{stepLog, stepTimestamp, stepCertificate, stepCertificateLog, stepSignature} {
		if rest, ok := strings.CutPrefix(text, s.prefix); ok {
			return s.failed(rest)
		}
	}

	return because(reason.Unverifiable, fmt.Errorf("it cannot be verified%s", detail(text)))
}

// detail is what sigstore-go adds, without what is for its programmers: dumps
// of bytes, and errors that were none.
func detail(text string) string {
	for _, noise := range []string{"[", "%!", "; error:"} {
		text, _, _ = strings.Cut(text, noise)
	}

	text = strings.TrimRight(strings.TrimPrefix(text, ": "), " :;,")
	if text == "" {
		return ""
	}
	return fmt.Sprintf(" (%.160s)", printable(text))
}
