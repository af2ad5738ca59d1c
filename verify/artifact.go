package verify

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/verify/judge"
	"github.com/pullgate/pullgate/verify/oci"
	"github.com/pullgate/pullgate/verify/sigs"
)

// artifactKey is where memory keeps whether a manifest is a signature artifact:
// a fact about bytes, good under any policy.
func artifactKey(image string) string { return "artifact|" + image }

// knownArtifact reports whether memory knows d for a signature artifact.
func (q *question) knownArtifact(d digest.Digest) bool {
	v, ok := q.config.Cache.verdicts.Get(artifactKey(imageKey(q.repo, d)))
	return ok && v.Outcome == Allowed && q.opens()
}

// opens reports whether signature artifacts of the repository are served.
func (q *question) opens() bool { return q.Opens(q.repo, q.client) }

// attachedTo is the digest that the tag of a signature, an attestation or a
// fallback index names; empty when tag is no such tag.
func attachedTo(tag string) digest.Digest {
	hex, ok := strings.CutPrefix(tag, "sha256-")
	if !ok || len(hex) < sha256.Size*2 {
		return ""
	}

	d := digest.NewDigestFromEncoded(digest.SHA256, hex[:sha256.Size*2])
	if oci.CheckDigest(d) != nil {
		return ""
	}
	return d
}

// maxArtifactLayers bounds the layers of a signature artifact. limits.signatures
// bounds how many blobs they are: signatures by many keys share a payload.
const maxArtifactLayers = 1024

// artifact admits signatures and attestations, which are unsigned themselves,
// for what they are: it reads every blob, and each must be what the manifest
// lists it as. Labels lie: a refused image's layer under a signature's media
// type is denied here, and so is what stands under the tag of another image.
// ok is false when m is no such artifact and is judged as an image. Concurrent
// questions share one reading, within a verdict's limits, and memory keeps
// either answer.
func (q *question) artifact(ctx context.Context, m *cachedManifest) (v judgement, ok bool, err error) {
	if !m.artifact || len(m.Blobs)-1 > maxArtifactLayers || !q.opens() { // the config is no layer
		return judgement{}, false, nil
	}

	image := imageKey(q.repo, m.Digest)
	read := attached{key: artifactKey(image), image: m.subject}
	if tag := attachedTo(q.tag); tag != "" && m.Digest == q.tagged && tag != read.image {
		if read.image != "" {
			return judgement{}, false, nil // the tag and the manifest name different images
		}
		read = attached{key: artifactKey(image + "|" + tag.String()), image: tag}
	}

	if v, ok := q.config.Cache.verdicts.Get(read.key); ok {
		v.CacheHit = true
		return v, v.Outcome == Allowed, nil
	}

	v, err = q.judging(func() (judgement, error) {
		return coalesce(ctx, q, read.key, func(ctx context.Context) (judgement, error) {
			return q.judgeArtifact(ctx, read, m)
		})
	})
	return v, err == nil && v.Outcome == Allowed, err
}

// attached is what a signature artifact is read as: as attached to image, or,
// when image is empty, to some image. key is where memory keeps the answer.
type attached struct {
	key   string
	image digest.Digest
}

// judgeArtifact reads m's blobs and puts the answer into memory.
func (q *question) judgeArtifact(ctx context.Context, read attached, m *cachedManifest) (judgement, error) {
	done, err := q.enter(ctx, q.repo.Host)
	if err != nil {
		return judgement{}, err
	}
	defer done()

	var claimed *sigs.Artifact
	err = q.slot(ctx, func() error { // parsing takes many times the bytes
		claimed, _ = sigs.ParseArtifact(m.Bytes)
		return nil
	})
	if err != nil {
		return judgement{}, unverified(err)
	}
	is, err := q.isArtifact(ctx, claimed, read.image)
	if err != nil {
		return judgement{}, fmt.Errorf("read signature artifact %s@%s: %w", q.repo, m.Digest, unverified(err))
	}

	v := judgement{Verdict: Verdict{Image: q.repo, Digest: m.Digest, Policy: "signature artifacts"}}
	ttl := q.config.DenyTTL // a blob may have been missing for the moment
	if is {
		v.Outcome, v.Signer, ttl = Allowed, "signature artifact", q.config.TTL
		// What names this image names some image: its blobs are asked for without a tag.
		q.config.Cache.verdicts.SetWithTTL(artifactKey(imageKey(q.repo, m.Digest)), v, 1, ttl)
	}
	q.config.Cache.verdicts.SetWithTTL(read.key, v, 1, ttl)
	return v, nil
}

// isArtifact reads every blob, each once. A missing or oversized one means no;
// an upstream that cannot be asked is an error.
func (q *question) isArtifact(ctx context.Context, a *sigs.Artifact, image digest.Digest) (bool, error) {
	registry, err := q.registry(q.repo)
	if err != nil {
		return false, err
	}
	counting := &countingRegistry{Registry: registry}
	defer q.chargeVerdict(counting)
	registry = counting

	budget := judge.NewBudget(q.config.Limits.VerdictBytes)
	config, err := q.small(ctx, registry, a.Config, budget)
	if err != nil || config == nil {
		return false, err
	}
	layers := make([]digest.Digest, len(a.Layers))
	for i, l := range a.Layers {
		layers[i] = l.Digest
	}
	if sigs.CheckConfig(a.Config.MediaType, config, layers) != nil {
		return false, nil
	}

	type listed struct {
		mediaType string
		digest    digest.Digest
		size      int64
	}
	read := map[listed]bool{}
	for _, l := range a.Layers {
		one := listed{l.MediaType, l.Digest, l.Size}
		if read[one] {
			continue
		}
		read[one] = true
		if len(read) > q.config.Limits.Signatures {
			return false, nil
		}

		blob, err := q.small(ctx, registry, l, budget)
		if err != nil || blob == nil {
			return false, err
		}
		if err := q.slot(ctx, func() error { return sigs.CheckLayer(l, blob, image) }); err != nil {
			return false, ctx.Err() // nil: the blob is not what the manifest lists it as
		}
	}
	return true, nil
}

// small fetches one blob of an artifact. Nil without an error means that the
// blob is missing, listed as too large to be a signature, or of another size
// than listed.
func (q *question) small(ctx context.Context, registry Registry, b sigs.Blob, budget *judge.Budget) ([]byte, error) {
	if oci.CheckDigest(b.Digest) != nil || b.Size < 0 || b.Size > q.config.Limits.PayloadBytes || !budget.Take(b.Size) {
		return nil, nil
	}

	content, err := registry.Blob(ctx, q.repo, b.Digest, q.config.Limits.PayloadBytes)
	if oci.IsNotFound(err) || err == nil && int64(len(content)) != b.Size {
		return nil, nil
	}
	return content, err
}
