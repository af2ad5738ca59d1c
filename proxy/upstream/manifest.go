package upstream

import (
	"context"
	"errors"
	"mime"
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
)

// acceptManifests is the same for every request, so that a registry's answer does
// not depend on the client.
const acceptManifests = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, " +
	"application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json"

// Manifest implements verify.Registry.
func (u *Upstream) Manifest(ctx context.Context, image policy.Image, limit int64) (oci.Manifest, error) {
	c := call{
		method:    http.MethodGet,
		url:       u.at(image.Repository, "manifests", image.Reference.String()),
		operation: "manifests",
		accept:    acceptManifests,
		repo:      image.Repository,
	}
	resp, err := u.send(ctx, c, http.StatusOK)
	if image.Digest != "" && oci.IsNotFound(err) && errors.Is(err, errElsewhere) {
		// registry.k8s.io redirects to regions, which do not have everything at once.
		resp, err = u.send(ctx, c, http.StatusOK)
	}
	if err != nil {
		return oci.Manifest{}, err
	}

	b, err := u.read(ctx, resp, limit)
	if err != nil {
		return oci.Manifest{}, err
	}

	m := oci.Manifest{Bytes: b, MediaType: mediaType(resp), Digest: digest.FromBytes(b)}
	if image.Digest != "" {
		m.Digest = image.Digest
		return m, u.matches(m.Digest, b)
	}

	// A registry that states a wrong digest may be wrong about anything (CVE-2023-47630).
	if said := resp.Header.Get("Docker-Content-Digest"); said != "" {
		if err := u.matches(digest.Digest(said), b); err != nil {
			return oci.Manifest{}, u.broken("Docker-Content-Digest %.80q is not that of the bytes sent", said)
		}
	}

	return m, nil
}

// Resolve implements verify.Registry. Registries, and the stores that they
// redirect to, answer HEAD in ways of their own: with an error, without a digest,
// or by a redirect that is signed for GET. None of that says anything about the
// tag. An error means that the registry could not be asked at all, or that it
// limits how often it may be asked.
func (u *Upstream) Resolve(ctx context.Context, repo policy.Repository, tag string) (digest.Digest, bool, error) {
	c := call{
		method:    http.MethodHead,
		url:       u.at(repo, "manifests", tag),
		operation: "manifests",
		accept:    acceptManifests,
		repo:      repo,
	}
	resp, err := u.ask(ctx, c)
	var answered *oci.UpstreamError
	switch {
	case errors.As(err, &answered) && answered.Answered:
		return "", false, nil
	case err != nil:
		return "", false, err
	}
	discard(resp)

	if resp.StatusCode == http.StatusTooManyRequests {
		return "", false, u.refused(c, resp)
	}
	d := digest.Digest(resp.Header.Get("Docker-Content-Digest"))

	return d, resp.StatusCode == http.StatusOK && oci.CheckDigest(d) == nil, nil
}

// mediaType is the answer's Content-Type without parameters, or empty.
func mediaType(resp *http.Response) string {
	t, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}

	return t
}
