package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify"
	"github.com/pullgate/pullgate/verify/oci"
)

// recording is everything registries answered while an image was verified, to
// be verified again without them. Its bytes are untrusted, as theirs were.
type recording struct {
	Manifests map[string]recordedManifest `json:"manifests"`
	Blobs     map[string][]byte           `json:"blobs"`
	Referrers map[string]oci.Referrers    `json:"referrers"`

	failed error // a question that was not answered: its answer would be missing
}

type recordedManifest struct {
	MediaType string `json:"mediaType"`
	Bytes     []byte `json:"bytes"`
}

func newRecording() *recording {
	return &recording{
		Manifests: map[string]recordedManifest{},
		Blobs:     map[string][]byte{},
		Referrers: map[string]oci.Referrers{},
	}
}

func readRecording(file string) (*recording, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read recording: %w", err)
	}
	r := newRecording()
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("recording %s: %w; make it again with `pullgate verify IMAGE --record FILE`", file, err)
	}
	return r, nil
}

func (r *recording) write(file string) error {
	if r.failed != nil {
		return fmt.Errorf("nothing was recorded, because what could not be asked would replay as absent: %w", r.failed)
	}
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("write recording: %w", err)
	}
	return os.WriteFile(file, append(b, '\n'), 0o600)
}

func recordKey(repo policy.Repository, what string) string { return repo.String() + "@" + what }

// recorder asks a registry and writes down what it answered. What was missing
// is missing in the recording too.
type recorder struct {
	registry verify.Registry
	mu       *sync.Mutex
	into     *recording
}

func (r *recorder) Manifest(
	ctx context.Context,
	image policy.Image,
	limit int64,
) (oci.Manifest, error) {
	m, err := r.registry.Manifest(ctx, image, limit)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note(err)
	if err == nil {
		r.into.Manifests[recordKey(image.Repository, image.Reference.String())] = recordedManifest{m.MediaType, m.Bytes}
		r.into.Manifests[recordKey(image.Repository, m.Digest.String())] = recordedManifest{m.MediaType, m.Bytes}
	}
	return m, err
}

// note remembers a failure that is no plain "not there". A look-up that was
// called off because a signature counted already is none either.
func (r *recorder) note(err error) {
	if err != nil && !oci.IsNotFound(err) && !errors.Is(err, context.Canceled) && r.into.failed == nil {
		r.into.failed = err
	}
}

func (r *recorder) Resolve(context.Context, policy.Repository, string) (digest.Digest, bool, error) {
	return "", false, nil // asks Manifest instead
}

func (r *recorder) Blob(ctx context.Context, repo policy.Repository, d digest.Digest, limit int64) ([]byte, error) {
	b, err := r.registry.Blob(ctx, repo, d, limit)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note(err)
	if err == nil {
		r.into.Blobs[recordKey(repo, d.String())] = b
	}
	return b, err
}

func (r *recorder) Referrers(
	ctx context.Context,
	repo policy.Repository,
	d digest.Digest,
	limit int64,
) (oci.Referrers, error) {
	list, err := r.registry.Referrers(ctx, repo, d, limit)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note(err)
	if err == nil && list.Supported {
		r.into.Referrers[recordKey(repo, d.String())] = list
	}
	return list, err
}

// replayer answers as the recorded registries did; what they were not asked is
// not found.
type replayer struct{ from *recording }

func (r replayer) Manifest(
	_ context.Context,
	image policy.Image,
	limit int64,
) (oci.Manifest, error) {
	m, ok := r.from.Manifests[recordKey(image.Repository, image.Reference.String())]
	if !ok {
		return oci.Manifest{}, notRecorded(image.Repository)
	}
	if int64(len(m.Bytes)) > limit {
		return oci.Manifest{}, &oci.UpstreamError{Status: 502, Host: image.Host, Err: oci.ErrTooLarge}
	}
	got := oci.Manifest{Bytes: m.Bytes, MediaType: m.MediaType, Digest: digest.FromBytes(m.Bytes)}
	if d := image.Digest; d != "" {
		if d.Algorithm().FromBytes(m.Bytes) != d {
			return oci.Manifest{}, errors.New("the recording holds other bytes for " + d.String())
		}
		got.Digest = d
	}
	return got, nil
}

func (r replayer) Resolve(context.Context, policy.Repository, string) (digest.Digest, bool, error) {
	return "", false, nil
}

func (r replayer) Blob(_ context.Context, repo policy.Repository, d digest.Digest, limit int64) ([]byte, error) {
	b, ok := r.from.Blobs[recordKey(repo, d.String())]
	switch {
	case !ok:
		return nil, notRecorded(repo)
	case int64(len(b)) > limit:
		return nil, &oci.UpstreamError{Status: 502, Host: repo.Host, Err: oci.ErrTooLarge}
	case d.Algorithm().FromBytes(b) != d:
		return nil, errors.New("the recording holds other bytes for " + d.String())
	}
	return b, nil
}

func (r replayer) Referrers(
	_ context.Context,
	repo policy.Repository,
	d digest.Digest,
	_ int64,
) (oci.Referrers, error) {
	return r.from.Referrers[recordKey(repo, d.String())], nil
}

func notRecorded(repo policy.Repository) error {
	return &oci.UpstreamError{Status: 404, Host: repo.Host, Err: errors.New("not in the recording")}
}
