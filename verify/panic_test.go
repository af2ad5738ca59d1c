package verify_test

import (
	"context"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify"
	"github.com/pullgate/pullgate/verify/oci"
)

// fragile is a registry whose answers to some questions are more than their
// reader can stand. The questions are "manifest", "signature", "payload" and
// "referrers".
type fragile struct {
	verify.Registry
	image digest.Digest
	at    string
}

func (r fragile) stand(question string) {
	if question == r.at {
		panic("a hostile " + question)
	}
}

func (r fragile) Manifest(
	ctx context.Context, asked policy.Image, most int64,
) (oci.Manifest, error) {
	if asked.Digest == r.image {
		r.stand("manifest")
	} else {
		r.stand("signature")
	}
	return r.Registry.Manifest(ctx, asked, most)
}

func (r fragile) Blob(
	ctx context.Context, repo policy.Repository, d digest.Digest, most int64,
) ([]byte, error) {
	r.stand("payload")
	return r.Registry.Blob(ctx, repo, d, most)
}

func (r fragile) Referrers(
	ctx context.Context, repo policy.Repository, d digest.Digest, most int64,
) (oci.Referrers, error) {
	r.stand("referrers")
	return r.Registry.Referrers(ctx, repo, d, most)
}

// TestPanic: a panic over one image ends neither the gate nor its verdicts of
// others. About that image the gate cannot tell.
func TestPanic(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"manifest", "signature", "payload", "referrers"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			s := newSigners(t)
			image := s.image()
			s.attach(image, s.sign(image, "a"))
			config := s.served(everyHost, fragile{s.up, image, at})

			repo := policy.Repository{Host: "reg.example", Path: signersRepo}
			_, v, err := s.configured(config).Manifest(t.Context(), repo.At(image), policy.Client{})
			if err == nil || v.Admitted() || !strings.Contains(err.Error(), "a hostile "+at) {
				t.Errorf("%s, %v; want an error that names the panic", v.Outcome, err)
			}

			config.Registry = func(string) (verify.Registry, bool) { return s.up, true }
			if v := s.verdict(s.configured(config), image); v.Outcome != verify.Allowed {
				t.Errorf("once the registry is whole: %s: %s", v.Outcome, v.Message())
			}
		})
	}
}
