package oci

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// ErrDigest is wrapped by CheckDigest's errors (400 DIGEST_INVALID).
var ErrDigest = errors.New("invalid digest")

// CheckDigest accepts sha256 and sha512 digests in canonical form and nothing
// else (CVE-2024-3727: digests are never trusted as path parts unchecked).
func CheckDigest(d digest.Digest) error {
	algorithm, hex, ok := strings.Cut(string(d), ":")
	if !ok {
		return fmt.Errorf("%w: not algorithm:hex in lower case", ErrDigest)
	}

	length := 64
	switch digest.Algorithm(algorithm) {
	case digest.SHA256:
	case digest.SHA512:
		length = 128
	default:
		return fmt.Errorf("%w: algorithm %.20q is not sha256 or sha512", ErrDigest, algorithm)
	}

	if len(hex) != length || strings.Trim(hex, "0123456789abcdef") != "" {
		return fmt.Errorf("%w: not %d hex digits in lower case", ErrDigest, length)
	}
	return nil
}
