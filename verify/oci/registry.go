package oci

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/opencontainers/go-digest"
)

// Referrers is what a registry's referrers API answered.
type Referrers struct {
	Supported   bool
	Truncated   bool
	Descriptors []Descriptor
}

// Descriptor is an OCI content descriptor as far as the gate reads it.
type Descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       digest.Digest     `json:"digest"`
	Size         int64             `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// Manifest is bytes as an upstream sent them, with the digest computed here.
type Manifest struct {
	Bytes     []byte
	MediaType string        // the response's Content-Type without parameters
	Digest    digest.Digest // of Bytes: sha256, or the algorithm of the digest asked for
}

// UpstreamError is an upstream's failure, already translated into what the
// client may be told. Its text is for logs only.
type UpstreamError struct {
	// a 4xx or 501 as the upstream said; 502: broken or lying; 503: unreachable, timed out, any other 5xx
	Status     int
	RetryAfter string // the upstream's Retry-After, when it sent one
	Answered   bool   // the upstream sent an answer, whatever it was
	HadAuth    bool   // credentials were configured for this upstream
	Identity   string // whose credentials could not be had, such as a role's; empty: that was not what failed
	Challenge  string // of a 401: what the client has to meet; empty: the credentials are the gate's
	Host       string // familiar host of the upstream
	Err        error  // what happened, for logs
}

func (e *UpstreamError) Error() string {
	return fmt.Sprintf("upstream %s: %d: %v", e.Host, e.Status, e.Err)
}

func (e *UpstreamError) Unwrap() error { return e.Err }

// IsNotFound reports whether err is an upstream's plain 404.
func IsNotFound(err error) bool {
	var u *UpstreamError
	return errors.As(err, &u) && u.Status == http.StatusNotFound
}

// IsUnavailable reports whether err is a network error, a timeout or a 5xx: the
// upstream said nothing about the image.
func IsUnavailable(err error) bool {
	var u *UpstreamError
	return errors.As(err, &u) && u.Status == http.StatusServiceUnavailable || errors.Is(err, context.DeadlineExceeded)
}

// ErrTooLarge is wrapped by a Registry's error when an answer has more bytes
// than it was asked for; none of them is returned.
var ErrTooLarge = errors.New("the answer is too large")

// ErrEnough is the cause of a context's end when a look-up is not needed any
// more, because another one has decided. The registry is not at fault.
var ErrEnough = errors.New("another look-up has decided")
