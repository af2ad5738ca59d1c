package verify

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/facts"
	"github.com/pullgate/pullgate/verify/oci"
)

// sharedStore is a store that knows no scopes: facts are true whoever learned
// them, and grant nothing. That a client may read what they are about is asked of
// the registry, with its own credentials, before the gate is.
type sharedStore struct{ facts.Store }

func unscoped(repo policy.Repository) policy.Repository {
	repo.Scope = ""
	return repo
}

func (s sharedStore) Learn(ctx context.Context, f facts.Fact) (facts.Learned, error) {
	f.Repository = unscoped(f.Repository)
	return s.Store.Learn(ctx, f)
}

func (s sharedStore) Epoch(ctx context.Context, repo policy.Repository) uint64 {
	return s.Store.Epoch(ctx, unscoped(repo))
}

func (s sharedStore) Indexes(ctx context.Context, repo policy.Repository) ([]digest.Digest, error) {
	return s.Store.Indexes(ctx, unscoped(repo))
}

func (s sharedStore) Parents(
	ctx context.Context,
	repo policy.Repository,
	kind facts.PartKind,
	d digest.Digest,
) ([]digest.Digest, error) {
	return s.Store.Parents(ctx, unscoped(repo), kind, d)
}

func (s sharedStore) Manifest(
	ctx context.Context,
	repo policy.Repository,
	d digest.Digest,
) (m oci.Manifest, ok bool, err error) {
	return s.Store.Manifest(ctx, unscoped(repo), d)
}

func (s sharedStore) Seen(ctx context.Context, repo policy.Repository, d digest.Digest) (time.Time, error) {
	return s.Store.Seen(ctx, unscoped(repo), d)
}

func (s sharedStore) Evidence(
	ctx context.Context,
	repo policy.Repository,
	d digest.Digest,
	now time.Time,
	maxAge time.Duration,
) ([]facts.Signature, error) {
	return s.Store.Evidence(ctx, unscoped(repo), d, now, maxAge)
}
