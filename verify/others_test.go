package verify_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/test/hostile"
	"github.com/pullgate/pullgate/verify"
	"github.com/pullgate/pullgate/verify/facts"
	"github.com/pullgate/pullgate/verify/oci"
)

// shared is what replicas share: a state file, and whether it can be asked.
type shared struct {
	*facts.Bolt
	ttl      time.Duration
	away     atomic.Bool
	behind   atomic.Bool
	doubts   atomic.Int64
	complete func() // is called when it is asked whether nothing is missing
}

var errAway = errors.New("the shared store is away")

func newShared(t *testing.T) *shared {
	t.Helper()
	store, err := facts.OpenBolt(t.TempDir(), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return &shared{Bolt: store, ttl: time.Hour, complete: func() {}}
}

func (s *shared) Parents(
	ctx context.Context,
	repo policy.Repository,
	kind facts.PartKind,
	d digest.Digest,
) ([]digest.Digest, error) {
	if s.away.Load() {
		return nil, errAway
	}
	return s.Bolt.Parents(ctx, repo, kind, d)
}

func (s *shared) Indexes(ctx context.Context, repo policy.Repository) ([]digest.Digest, error) {
	if s.away.Load() {
		return nil, errAway
	}
	return s.Bolt.Indexes(ctx, repo)
}

func (s *shared) Evidence(
	ctx context.Context,
	repo policy.Repository,
	d digest.Digest,
	now time.Time,
) (facts.Evidence, error) {
	if s.away.Load() {
		return facts.Evidence{}, errAway
	}
	return s.Bolt.Evidence(ctx, repo, d, now, s.ttl)
}

func (s *shared) Complete(context.Context) error {
	s.complete()
	if s.away.Load() || s.behind.Load() {
		return errAway
	}
	return nil
}

func (s *shared) Doubt() { s.doubts.Add(1) }

// replica is a gate with a state of its own, and with what it shares.
type replica struct {
	*verify.Gate
	own *facts.Bolt
}

// both writes to the state of a replica and to what it shares.
type both struct {
	*facts.Bolt
	shared *shared
}

func (b both) Learn(ctx context.Context, f facts.Fact) (facts.Learned, error) {
	learned, err := b.Bolt.Learn(ctx, f)
	if err == nil && !b.shared.away.Load() {
		f.SeenAt = time.Time{}
		_, err = b.shared.Learn(ctx, f)
	}
	return learned, err
}

func (b both) Manifest(ctx context.Context, repo policy.Repository, d digest.Digest) (oci.Manifest, bool, error) {
	m, ok, err := b.Bolt.Manifest(ctx, repo, d)
	if ok || err != nil || b.shared.away.Load() {
		return m, ok, err
	}
	return b.shared.Manifest(ctx, repo, d)
}

func newReplica(s *signers, with *shared, policies string) *replica {
	s.t.Helper()
	return newReplicaAt(s, with, policies, time.Now)
}

// newReplicaAt is newReplica with another clock.
func newReplicaAt(s *signers, with *shared, policies string, now func() time.Time) *replica {
	s.t.Helper()
	own, err := facts.OpenBolt(s.t.TempDir(), 1<<30)
	s.check(err)
	s.t.Cleanup(func() { _ = own.Close() })
	cache, err := verify.NewCache(1000, 1<<24)
	s.check(err)
	s.t.Cleanup(cache.Close)

	config := s.gate(policies).Config()
	config.Store, config.Others, config.Cache, config.Now = both{own, with}, with, cache, now
	gate, err := verify.New(config)
	s.check(err)
	return &replica{gate, own}
}

const byKeyA = `[{name: ours, images: ["reg.example/**"], authorities: [{key: a.pub}]}]`

func (r *replica) manifest(t *testing.T, ref policy.Image) (verify.Verdict, error) {
	t.Helper()
	_, v, err := r.Manifest(t.Context(), ref, policy.Client{})
	return v, err
}

func (r *replica) blob(t *testing.T, d digest.Digest) (verify.Verdict, error) {
	t.Helper()
	_, v, err := r.Blob(t.Context(), sharedRepo, d, policy.Client{})
	return v, err
}

var sharedRepo = policy.Repository{Host: "reg.example", Path: signersRepo}

func wantOutcome(t *testing.T, what string, v verify.Verdict, err error, want verify.Outcome) {
	t.Helper()
	if err != nil || v.Outcome != want {
		t.Errorf("%s: %s, %v; want %s: %s", what, v.Outcome, err, want, v.Message())
	}
}

func wantOpen(t *testing.T, what string, v verify.Verdict, err error) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: %s; want an error, which is neither", what, v.Outcome)
	}
}

// TestPartsOfAnotherReplica: what one replica admits by an index, another admits too.
func TestPartsOfAnotherReplica(t *testing.T) {
	t.Parallel()
	s := newSigners(t)
	with := newShared(t)
	a, b := newReplica(s, with, byKeyA), newReplica(s, with, byKeyA)
	child := s.reg.PushImage(signersRepo, "")
	index := s.reg.PushIndex(signersRepo, "v1", child.Digest)
	s.reg.Sign(signersRepo, index, s.keys["a"])

	v, err := a.manifest(t, sharedRepo.Tagged("v1"))
	wantOutcome(t, "the index", v, err, verify.Allowed)
	s.reg.Forget()
	v, err = b.manifest(t, sharedRepo.At(child.Digest))
	wantOutcome(t, "the child elsewhere", v, err, verify.Allowed)
	v, err = b.blob(t, child.Layers[0])
	wantOutcome(t, "a layer elsewhere", v, err, verify.Allowed)
	if n := s.reg.Count(func(q hostile.Request) bool { return strings.Contains(q.URI, "sig") }); n != 0 {
		t.Errorf("the registry was asked %d times for signatures that a replica had found", n)
	}

	with.away.Store(true)
	v, err = b.blob(t, child.Layers[0])
	wantOutcome(t, "what it has served, without the others", v, err, verify.Allowed)
	v, err = newReplica(s, with, byKeyA).blob(t, child.Layers[0])
	wantOpen(t, "what it has not", v, err)
}

// TestOtherParents: a part that this replica knows only by an image that is refused
// may have been admitted by another one.
func TestOtherParents(t *testing.T) {
	t.Parallel()
	s := newSigners(t)
	with := newShared(t)
	a, b := newReplica(s, with, byKeyA), newReplica(s, with, byKeyA)
	base := []byte("a base layer of both")
	fine, old := s.reg.PushImage(signersRepo, "fine", base), s.reg.PushImage(signersRepo, "old", base)
	s.reg.Sign(signersRepo, fine.Digest, s.keys["a"])
	_, err := b.own.Learn(t.Context(), facts.Fact{ // from the time when it was signed
		Repository: sharedRepo,
		Manifest:   oci.Manifest{Bytes: old.Manifest, MediaType: hostile.ImageType, Digest: old.Digest},
		Parts:      oci.Structure{Kind: oci.Image, Blobs: append([]digest.Digest{old.Config}, old.Layers...)},
		SeenAt:     time.Now(),
	})
	s.check(err)

	v, err := b.blob(t, fine.Layers[0])
	wantOutcome(t, "before anyone admitted it", v, err, verify.Denied)
	v, err = a.manifest(t, sharedRepo.Tagged("fine"))
	wantOutcome(t, "the image", v, err, verify.Allowed)
	v, err = b.blob(t, fine.Layers[0])
	wantOutcome(t, "the base layer elsewhere", v, err, verify.Allowed)
}

// TestIncompleteReplicas: what another replica may have learned a moment ago is not
// refused before all have said what they know.
func TestIncompleteReplicas(t *testing.T) {
	t.Parallel()
	s := newSigners(t)
	with := newShared(t)
	a, b := newReplica(s, with, byKeyA), newReplica(s, with, byKeyA)
	child := s.reg.PushImage(signersRepo, "")
	index := s.reg.PushIndex(signersRepo, "v1", child.Digest)
	s.reg.Sign(signersRepo, index, s.keys["a"])

	v, err := b.manifest(t, sharedRepo.At(child.Digest))
	wantOutcome(t, "before anyone admitted it", v, err, verify.Denied)
	v, err = b.blob(t, child.Config)
	wantOutcome(t, "its config", v, err, verify.Denied)
	if !v.Unknown {
		t.Errorf("the config is no unknown part: %s", v.Message())
	}

	with.behind.Store(true)
	v, err = newReplica(s, with, byKeyA).manifest(t, sharedRepo.At(child.Digest))
	wantOpen(t, "the child, while another is behind", v, err)
	v, err = b.blob(t, child.Config)
	wantOpen(t, "its config, while another is behind", v, err)

	with.behind.Store(false)
	with.complete = func() { // what was waiting elsewhere is written now
		_, _, err := a.Manifest(t.Context(), sharedRepo.Tagged("v1"), policy.Client{})
		s.check(err)
		_, _, err = a.Manifest(t.Context(), sharedRepo.At(child.Digest), policy.Client{})
		s.check(err)
	}
	v, err = b.blob(t, child.Config)
	wantOutcome(t, "its config, when all is written", v, err, verify.Allowed)
}

// TestLiesOfTheSharedStore: it can cost time, and admits nothing.
func TestLiesOfTheSharedStore(t *testing.T) {
	t.Parallel()
	s := newSigners(t)
	evil, ours := s.reg.PushImage(signersRepo, ""), s.reg.PushImage(signersRepo, "")
	s.reg.Sign(signersRepo, ours.Digest, s.keys["a"])
	manifest := func(i hostile.Image) oci.Manifest {
		return oci.Manifest{Bytes: i.Manifest, MediaType: hostile.ImageType, Digest: i.Digest}
	}
	madeUp := oci.Manifest{Bytes: evil.Manifest, MediaType: hostile.ImageType, Digest: digest.FromString("made up")}
	lie := func(m oci.Manifest) facts.Fact {
		return facts.Fact{
			Repository: sharedRepo,
			Manifest:   m,
			Parts: oci.Structure{
				Blobs:     []digest.Digest{evil.Layers[0]},
				Manifests: []digest.Digest{evil.Digest},
			},
		}
	}
	stolen := lie(manifest(evil))
	stolen.Evidence = &facts.Evidence{FetchedAt: time.Now(), Signatures: []facts.Signature{{
		Format:      facts.SimpleSigning,
		Payload:     hostile.Payload(signersRepo, ours.Digest),
		Annotations: hostile.SignatureLayer(hostile.Payload(signersRepo, ours.Digest), s.keys["a"]).Annotations,
	}}}

	for name, f := range map[string]facts.Fact{
		"a signed image lists it":     lie(manifest(ours)),
		"a manifest that is made up":  lie(madeUp),
		"an unsigned image lists it":  lie(manifest(evil)),
		"evidence of another's image": stolen,
	} {
		t.Run(name, func(t *testing.T) {
			with := newShared(t)
			_, err := with.Learn(t.Context(), f)
			s.check(err)
			r := newReplica(s, with, byKeyA)
			if v, err := r.blob(t, evil.Layers[0]); err == nil && v.Admitted() {
				t.Errorf("the layer is served: %s", v.Signer)
			}
			if v, err := r.manifest(t, sharedRepo.At(evil.Digest)); err == nil && v.Admitted() {
				t.Errorf("the image is served: %s", v.Signer)
			}
		})
	}

	t.Run("what stood there may be lost", func(t *testing.T) {
		with := newShared(t)
		_, err := with.Learn(t.Context(), lie(manifest(ours)))
		s.check(err)
		v, err := newReplica(s, with, byKeyA).blob(t, evil.Layers[0])
		wantOpen(t, "a part of nothing that the store names", v, err)
		if with.doubts.Load() == 0 {
			t.Error("it is not doubted")
		}
	})
}

// TestEvidenceOfOthers: it stands in for the registry no longer than for the replica
// that has fetched it, and under the keys of today.
func TestEvidenceOfOthers(t *testing.T) {
	t.Parallel()
	s := newSigners(t)
	for name, row := range map[string]struct {
		key  string
		age  time.Duration
		want verify.Outcome
	}{
		"of today":               {key: "a", want: verify.Allowed},
		"another key's":          {key: "b"},
		"too old":                {key: "a", age: 2 * time.Hour},
		"from the future":        {key: "a", age: -time.Hour},
		"almost as old as it is": {key: "a", age: 59 * time.Minute, want: verify.Allowed},
	} {
		t.Run(name, func(t *testing.T) {
			with := newShared(t)
			i := s.reg.PushImage(signersRepo, "") // whose signature the registry has no more
			payload := hostile.Payload(signersRepo, i.Digest)
			_, err := with.Learn(t.Context(), facts.Fact{
				Repository: sharedRepo,
				Manifest:   oci.Manifest{Bytes: i.Manifest, MediaType: hostile.ImageType, Digest: i.Digest},
				Parts:      oci.Structure{Kind: oci.Image, Blobs: i.Layers},
				Evidence: &facts.Evidence{FetchedAt: time.Now().Add(-row.age), Signatures: []facts.Signature{{
					Format:      facts.SimpleSigning,
					Payload:     payload,
					Annotations: hostile.SignatureLayer(payload, s.keys[row.key]).Annotations,
				}}},
			})
			s.check(err)
			r := newReplica(s, with, byKeyA)
			v, err := r.manifest(t, sharedRepo.At(i.Digest))
			wantOutcome(t, name, v, err, row.want)
			if e, err := r.own.Evidence(t.Context(), sharedRepo, i.Digest, time.Now(), 24*time.Hour); err != nil ||
				len(e.Signatures) != 0 {
				t.Errorf("it is kept here as if the registry had said it: %v, %v", e, err)
			}
		})
	}
}

// TestEvidenceEnds: a verdict by another replica's evidence ends when that replica's
// own would.
func TestEvidenceEnds(t *testing.T) {
	t.Parallel()
	s := newSigners(t)
	with := newShared(t)
	i := s.reg.PushImage(signersRepo, "") // whose signature the registry has no more
	payload := hostile.Payload(signersRepo, i.Digest)
	_, err := with.Learn(t.Context(), facts.Fact{
		Repository: sharedRepo,
		Manifest:   oci.Manifest{Bytes: i.Manifest, MediaType: hostile.ImageType, Digest: i.Digest},
		Parts:      oci.Structure{Kind: oci.Image, Blobs: i.Layers},
		Evidence: &facts.Evidence{FetchedAt: time.Now().Add(-50 * time.Minute), Signatures: []facts.Signature{{
			Format:      facts.SimpleSigning,
			Payload:     payload,
			Annotations: hostile.SignatureLayer(payload, s.keys["a"]).Annotations,
		}}},
	})
	s.check(err)
	var later atomic.Int64
	r := newReplicaAt(s, with, byKeyA, func() time.Time { return time.Now().Add(time.Duration(later.Load())) })

	v, err := r.manifest(t, sharedRepo.At(i.Digest))
	wantOutcome(t, "at first", v, err, verify.Allowed)
	later.Store(int64(11 * time.Minute))
	v, err = r.manifest(t, sharedRepo.At(i.Digest))
	wantOutcome(t, "an hour after it was fetched", v, err, verify.Denied)
}

// TestDenialsAmongReplicas: a written denial reaches the parts that another replica
// knows of, and no lie of the shared store excuses or accuses one.
func TestDenialsAmongReplicas(t *testing.T) {
	t.Parallel()
	s := newSigners(t)
	child := s.reg.PushImage(signersRepo, "")
	index := s.reg.PushIndex(signersRepo, "bad", child.Digest)
	innocent := s.reg.PushImage(signersRepo, "innocent")
	denying := fmt.Sprintf(`[{name: known-bad, digests: [%q], static: deny},
		{name: all, images: ["reg.example/**"], static: allow}]`, index)
	with := newShared(t)
	a, b := newReplica(s, with, denying), newReplica(s, with, denying)
	asIndex := oci.Manifest{Bytes: s.reg.Manifest(signersRepo, index), MediaType: hostile.IndexType, Digest: index}

	v, err := a.manifest(t, sharedRepo.At(index))
	wantOutcome(t, "the index", v, err, verify.Denied)
	v, err = b.manifest(t, sharedRepo.At(child.Digest))
	wantOutcome(t, "its child elsewhere", v, err, verify.Denied)
	v, err = b.blob(t, child.Layers[0])
	wantOutcome(t, "a layer elsewhere", v, err, verify.Denied)

	t.Run("excused by what no registry has", func(t *testing.T) {
		madeUp := []byte(strings.Replace(string(child.Manifest), `"schemaVersion"`, ` "schemaVersion"`, 1))
		_, err := with.Learn(t.Context(), facts.Fact{
			Repository: sharedRepo,
			Manifest: oci.Manifest{
				Bytes:     madeUp,
				MediaType: hostile.ImageType,
				Digest:    digest.FromBytes(madeUp),
			},
			Parts: oci.Structure{Kind: oci.Image, Blobs: append([]digest.Digest{child.Config}, child.Layers...)},
		})
		s.check(err)
		r := newReplica(s, with, denying)
		v, err := r.blob(t, child.Layers[0])
		if err == nil && v.Admitted() {
			t.Errorf("it is served: %s", v.Signer)
		}
	})
	t.Run("accused by what does not list it", func(t *testing.T) {
		_, err := with.Learn(t.Context(), facts.Fact{
			Repository: sharedRepo,
			Manifest:   asIndex,
			Parts:      oci.Structure{Kind: oci.Index, Manifests: []digest.Digest{innocent.Digest}},
		})
		s.check(err)
		v, err := newReplica(s, with, denying).manifest(t, sharedRepo.Tagged("innocent"))
		wantOutcome(t, "an innocent image", v, err, verify.Allowed)
	})
	t.Run("while the others are away", func(t *testing.T) {
		with.away.Store(true)
		defer with.away.Store(false)
		known := newReplica(s, with, denying)
		v, err := known.manifest(t, sharedRepo.At(child.Digest))
		wantOpen(t, "a child that only they may know to be denied", v, err)
	})
	t.Run("what was admitted here, while they are away", func(t *testing.T) {
		known := newReplica(s, with, denying)
		v, err := known.manifest(t, sharedRepo.Tagged("innocent"))
		wantOutcome(t, "an innocent image", v, err, verify.Allowed)
		with.away.Store(true)
		defer with.away.Store(false)
		v, err = known.manifest(t, sharedRepo.Tagged("innocent"))
		wantOutcome(t, "the same", v, err, verify.Allowed)
		v, err = known.blob(t, innocent.Layers[0])
		wantOutcome(t, "its layer", v, err, verify.Allowed)
	})
}
