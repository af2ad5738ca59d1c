package verify_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify"
	"github.com/pullgate/pullgate/verify/oci"
)

// lateRegistry gives an answer as it is, but only when the time for it has run
// out.
type lateRegistry struct {
	verify.Registry
	late func(reference string) bool
}

func (l lateRegistry) Manifest(
	ctx context.Context, image policy.Image, limit int64,
) (oci.Manifest, error) {
	m, err := l.Registry.Manifest(context.WithoutCancel(ctx), image, limit)
	l.wait(ctx, image.Reference.String())
	return m, err
}

func (l lateRegistry) Blob(
	ctx context.Context, repo policy.Repository, d digest.Digest, limit int64,
) ([]byte, error) {
	b, err := l.Registry.Blob(context.WithoutCancel(ctx), repo, d, limit)
	l.wait(ctx, d.String())
	return b, err
}

func (l lateRegistry) wait(ctx context.Context, reference string) {
	if l.late(reference) {
		<-ctx.Done()
	}
}

// A denial needs every answer in time: one that comes when the time is up says
// nothing, even if it comes without an error.
func TestLateAnswers(t *testing.T) {
	t.Parallel()
	s := newSigners(t)
	image := s.image()
	layer := s.sign(image, "b")
	s.attach(image, layer)
	const policies = `[{name: p, images: ["reg.example/**"], authorities: [{key: a.pub}]}]`
	if v := s.verdict(s.gate(policies), image); v.Admitted() || !strings.Contains(v.Message(), "another key") {
		t.Fatalf("in time: %s", v.Message())
	}

	for name, late := range map[string]func(reference string) bool{
		"payload":  func(reference string) bool { return reference == digest.FromBytes(layer.Body).String() },
		"sig tag":  func(reference string) bool { return strings.HasSuffix(reference, ".sig") },
		"any tag":  func(reference string) bool { return strings.HasPrefix(reference, "sha256-") },
		"referrer": func(reference string) bool { return reference != image.String() },
	} {
		config := s.gate(policies).Config()
		config.Limits.VerifyTimeout = 3 * time.Second
		config.Registry = func(string) (verify.Registry, bool) { return lateRegistry{s.up, late}, true }
		slow, err := verify.New(config)
		s.check(err)

		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo := policy.Repository{Host: "reg.example", Path: signersRepo}

			_, v, err := slow.Manifest(t.Context(), repo.At(image), policy.Client{})

			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s, %v; want an error that says that the time is up: %v", v.Outcome, err, v.Reasons)
			}
		})
	}
}
