package recording

import (
	"context"
	"errors"
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify"
	"github.com/pullgate/pullgate/verify/oci"
)

// recorder asks a registry and records its answers. What was missing is missing
// in the recording too.
type recorder struct {
	registry verify.Registry
	into     *Recording
}

func (r *recorder) Manifest(ctx context.Context, image policy.Image, limit int64) (oci.Manifest, error) {
	m, err := r.registry.Manifest(ctx, image, limit)

	r.into.add(err, func(f *file) {
		recorded := manifest{MediaType: m.MediaType, Bytes: m.Bytes}
		f.Manifests[key(image.Repository, image.Reference.String())] = recorded
		f.Manifests[key(image.Repository, m.Digest.String())] = recorded
	})
	return m, err
}

// Resolve makes the gate ask Manifest instead.
func (r *recorder) Resolve(context.Context, policy.Repository, string) (digest.Digest, bool, error) {
	return "", false, nil
}

func (r *recorder) Blob(ctx context.Context, repo policy.Repository, d digest.Digest, limit int64) ([]byte, error) {
	b, err := r.registry.Blob(ctx, repo, d, limit)

	r.into.add(err, func(f *file) { f.Blobs[key(repo, d.String())] = b })
	return b, err
}

func (r *recorder) Referrers(
	ctx context.Context,
	repo policy.Repository,
	d digest.Digest,
	limit int64,
) (oci.Referrers, error) {
	list, err := r.registry.Referrers(ctx, repo, d, limit)

	r.into.add(err, func(f *file) {
		if list.Supported {
			f.Referrers[key(repo, d.String())] = referrers(list)
		}
	})
	return list, err
}

// add records an answer, or that there was none. A registry that says for good
// that it has nothing gives nothing to record, and that is no failure.
func (r *Recording) add(err error, record func(f *file)) {
	r.mu.Lock()
	defer r.mu.Unlock()

	switch {
	case err == nil:
		record(&r.file)
	case !saysNone(err) && r.failed == nil:
		r.failed = err
	}
}

// saysNone reports whether err is a registry's final word that there is nothing:
// asked for a signature, registries say so in many ways.
func saysNone(err error) bool {
	var u *oci.UpstreamError
	if !errors.As(err, &u) {
		return false
	}

	switch u.Status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests:
		return false
	case http.StatusNotImplemented:
		return true
	}
	return u.Status < http.StatusInternalServerError
}
