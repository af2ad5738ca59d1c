package recording

import (
	"context"
	"fmt"
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
)

// replayer answers as the recorded registries did. What they were not asked is
// not found.
type replayer struct{ from *Recording }

func (r *replayer) Manifest(_ context.Context, image policy.Image, limit int64) (oci.Manifest, error) {
	m, ok := r.from.file.Manifests[key(image.Repository, image.Reference.String())]
	if !ok {
		return oci.Manifest{}, notRecorded(image.Repository)
	}
	if int64(len(m.Bytes)) > limit {
		return oci.Manifest{}, tooLarge(image.Repository)
	}

	got := oci.Manifest{Bytes: m.Bytes, MediaType: m.MediaType, Digest: digest.FromBytes(m.Bytes)}
	if d := image.Digest; d != "" {
		if d.Algorithm().FromBytes(m.Bytes) != d {
			return oci.Manifest{}, otherBytes(d)
		}
		got.Digest = d
	}
	return got, nil
}

// Resolve makes the gate ask Manifest instead.
func (r *replayer) Resolve(context.Context, policy.Repository, string) (digest.Digest, bool, error) {
	return "", false, nil
}

func (r *replayer) Blob(_ context.Context, repo policy.Repository, d digest.Digest, limit int64) ([]byte, error) {
	b, ok := r.from.file.Blobs[key(repo, d.String())]

	switch {
	case !ok:
		return nil, notRecorded(repo)
	case int64(len(b)) > limit:
		return nil, tooLarge(repo)
	case d.Algorithm().FromBytes(b) != d:
		return nil, otherBytes(d)
	}
	return b, nil
}

func (r *replayer) Referrers(
	_ context.Context,
	repo policy.Repository,
	d digest.Digest,
	_ int64,
) (oci.Referrers, error) {
	return oci.Referrers(r.from.file.Referrers[key(repo, d.String())]), nil
}

func notRecorded(repo policy.Repository) error {
	return &oci.UpstreamError{Status: http.StatusNotFound, Host: repo.Host, Err: errNotRecorded}
}

func tooLarge(repo policy.Repository) error {
	return &oci.UpstreamError{Status: http.StatusBadGateway, Host: repo.Host, Err: oci.ErrTooLarge}
}

func otherBytes(d digest.Digest) error {
	return fmt.Errorf("the recording holds other bytes for %s", d)
}
