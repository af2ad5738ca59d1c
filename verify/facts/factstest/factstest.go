// Package factstest is the test that every implementation of facts.Store
// passes. It knows what the interface promises and nothing of any
// implementation.
package factstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/facts"
	"github.com/pullgate/pullgate/verify/oci"
)

// Conformance tests the stores that open returns. Each of them is empty, big
// enough to forget nothing for its size, and closed by open's own cleanup.
func Conformance(t *testing.T, open func(t *testing.T) facts.Store) {
	t.Helper()

	for name, test := range map[string]func(*testing.T, facts.Store){
		"misses":            testMisses,
		"parents":           testParents,
		"scope":             testScope,
		"newest parents":    testNewestParents,
		"manifests":         testManifests,
		"large manifests":   testLargeManifests,
		"forged manifests":  testForgedManifests,
		"foreign digests":   testForeignDigests,
		"evidence":          testEvidence,
		"evidence's age":    testEvidenceAge,
		"replaced evidence": testReplacedEvidence,
		"large evidence":    testLargeEvidence,
		"epoch":             testEpoch,
		"indexes":           testIndexes,
		"seen":              testSeen,
		"concurrency":       testConcurrency,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

var (
	repo  = policy.Repository{Host: "r.example", Path: "a"}
	other = policy.Repository{Host: "r.example", Path: "b"}

	fetchedAt = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

// index is the fact that an index lists these manifests.
func index(children ...digest.Digest) facts.Fact {
	return fact([]byte(fmt.Sprint(children)), oci.Structure{Kind: oci.Index, Manifests: children})
}

func fact(content []byte, parts oci.Structure) facts.Fact {
	return facts.Fact{
		Repository: repo,
		Manifest: oci.Manifest{
			Bytes:     content,
			MediaType: "application/vnd.oci.image.index.v1+json",
			Digest:    digest.FromBytes(content),
		},
		Parts: parts,
	}
}

func signed(f facts.Fact, signatures ...facts.Signature) facts.Fact {
	f.Evidence = &facts.Evidence{FetchedAt: fetchedAt, Signatures: signatures}
	return f
}

func learn(t *testing.T, s facts.Store, f facts.Fact) facts.Learned {
	t.Helper()
	learned, err := s.Learn(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return learned
}

func wantParents(t *testing.T, s facts.Store, kind facts.PartKind, d digest.Digest, want ...digest.Digest) {
	t.Helper()
	got, err := s.Parents(t.Context(), repo, kind, d)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("parents of %s: %v, %v; want %v", d, got, err, want)
	}
}

func wantSignatures(t *testing.T, s facts.Store, d digest.Digest, want ...facts.Signature) {
	t.Helper()
	got, err := s.Evidence(t.Context(), repo, d, fetchedAt, time.Hour)
	kept := got.Signatures
	if err != nil || len(kept) != len(want) || len(want) > 0 && !reflect.DeepEqual(kept, want) {
		t.Errorf("signatures: %+v, %v; want %+v", kept, err, want)
	}
	if len(want) > 0 && !got.FetchedAt.Equal(fetchedAt) || len(want) == 0 && !got.FetchedAt.IsZero() {
		t.Errorf("they were fetched at %s", got.FetchedAt)
	}
}

// A store that works and does not know says so without an error.
func testMisses(t *testing.T, s facts.Store) {
	d := digest.FromString("unknown")
	wantParents(t, s, facts.PartManifest, d)
	wantParents(t, s, facts.PartBlob, d)
	wantSignatures(t, s, d)
	if m, ok, err := s.Manifest(t.Context(), repo, d); ok || err != nil || m.Bytes != nil {
		t.Errorf("manifest: %q, %v, %v; want none", m.Bytes, ok, err)
	}
}

func testParents(t *testing.T, s facts.Store) {
	config, layer := digest.FromString("config"), digest.FromString("layer")
	child, sibling := digest.FromString("child"), digest.FromString("sibling")
	ofImage := fact([]byte("image"), oci.Structure{Kind: oci.Image, Blobs: []digest.Digest{config, layer}})
	ofIndex := index(child, sibling)

	learn(t, s, ofImage)
	learn(t, s, ofIndex)

	wantParents(t, s, facts.PartBlob, config, ofImage.Manifest.Digest)
	wantParents(t, s, facts.PartBlob, layer, ofImage.Manifest.Digest)
	wantParents(t, s, facts.PartManifest, child, ofIndex.Manifest.Digest)
	wantParents(t, s, facts.PartManifest, sibling, ofIndex.Manifest.Digest)
}

// A fact is known of its own repository, kind and digest.
func testScope(t *testing.T, s facts.Store) {
	child := digest.FromString("child")
	f := signed(index(child), facts.Signature{Format: facts.Bundle, Payload: []byte("payload")})
	learn(t, s, f)
	d := f.Manifest.Digest

	wantParents(t, s, facts.PartManifest, child, d)
	wantParents(t, s, facts.PartBlob, child)
	wantParents(t, s, facts.PartManifest, digest.FromString("another"))
	wantParents(t, s, facts.PartManifest, d)

	elsewhere := map[string]policy.Repository{
		"another path": other,
		"another host": {Host: "s.example", Path: repo.Path},
		"longer path":  {Host: repo.Host, Path: repo.Path + "/a"},
		"shorter path": {Host: repo.Host},
		"none":         {},
	}
	for name, where := range elsewhere {
		if got, err := s.Parents(t.Context(), where, facts.PartManifest, child); err != nil || len(got) != 0 {
			t.Errorf("%s: parents %v, %v; want none", name, got, err)
		}
		if _, ok, err := s.Manifest(t.Context(), where, d); err != nil || ok {
			t.Errorf("%s: manifest %v, %v; want none", name, ok, err)
		}
		if got, err := s.Evidence(t.Context(), where, d, fetchedAt, time.Hour); err != nil || len(got.Signatures) != 0 {
			t.Errorf("%s: signatures %v, %v; want none", name, got, err)
		}
	}
}

// Of the parents of one part the newest are kept, and what is forgotten for
// them is named.
func testNewestParents(t *testing.T, s facts.Store) {
	child := digest.FromString("child")
	var newest, forgotten []digest.Digest
	for i := range facts.MaxParents + 10 {
		f := index(child, digest.FromString(fmt.Sprint(i)))
		newest = slices.Insert(newest, 0, f.Manifest.Digest)
		forgotten = append(forgotten, learn(t, s, f).PushedOut...)
	}

	kept, oldest := newest[:facts.MaxParents], newest[facts.MaxParents:]
	wantParents(t, s, facts.PartManifest, child, kept...)
	slices.Reverse(oldest)
	if !slices.Equal(forgotten, oldest) {
		t.Errorf("pushed out %v; want %v", forgotten, oldest)
	}

	again := index(child, digest.FromString("20"))
	learned := learn(t, s, again)
	wantParents(t, s, facts.PartManifest, child, moved(kept, again.Manifest.Digest)...)
	if len(learned.PushedOut) != 0 {
		t.Errorf("a parent that is known pushed out %v", learned.PushedOut)
	}
}

// moved is list with d moved to its front.
func moved(list []digest.Digest, d digest.Digest) []digest.Digest {
	rest := slices.DeleteFunc(slices.Clone(list), func(known digest.Digest) bool { return known == d })
	return slices.Insert(rest, 0, d)
}

func testManifests(t *testing.T, s facts.Store) {
	for name, content := range map[string][]byte{
		"text":        []byte(`{"schemaVersion":2}`),
		"any bytes":   {0, 'a', 0, 0xff, '\n'},
		"the largest": bytes.Repeat([]byte("a"), facts.MaxManifestBytes),
		"a zero byte": {0},
	} {
		for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
			f := fact(content, oci.Structure{Kind: oci.Image})
			f.Manifest.Digest = algorithm.FromBytes(content)
			learn(t, s, f)

			got, ok, err := s.Manifest(t.Context(), repo, f.Manifest.Digest)
			if !ok || err != nil || !reflect.DeepEqual(got, f.Manifest) {
				t.Fatalf("%s by %s: %v, %v, %q, %s; want the same", name, algorithm, ok, err, got.MediaType, got.Digest)
			}

			clear(got.Bytes) // they are the caller's
			if got, ok, err := s.Manifest(t.Context(), repo, f.Manifest.Digest); !ok || err != nil ||
				!bytes.Equal(got.Bytes, content) {
				t.Errorf("%s by %s: a caller has changed what is kept: %v", name, algorithm, err)
			}
		}
	}
}

// What a large manifest lists is known, though its bytes are not.
func testLargeManifests(t *testing.T, s facts.Store) {
	layer := digest.FromString("layer")
	f := fact(bytes.Repeat([]byte("a"), facts.MaxManifestBytes+1), oci.Structure{Blobs: []digest.Digest{layer}})
	learn(t, s, f)

	wantParents(t, s, facts.PartBlob, layer, f.Manifest.Digest)
	if _, ok, err := s.Manifest(t.Context(), repo, f.Manifest.Digest); ok || err != nil {
		t.Errorf("manifest: %v, %v; want none", ok, err)
	}
}

// Bytes are returned under their own digest only.
func testForgedManifests(t *testing.T, s facts.Store) {
	for name, d := range map[string]digest.Digest{
		"SHA-256": digest.FromString("true"),
		"SHA-512": digest.SHA512.FromString("true"),
	} {
		f := fact([]byte("false"), oci.Structure{})
		f.Manifest.Digest = d
		learn(t, s, f)

		if m, ok, err := s.Manifest(t.Context(), repo, d); ok || err != nil || m.Bytes != nil {
			t.Errorf("%s: %q, %v, %v; want none", name, m.Bytes, ok, err)
		}
	}
}

// The gate checks digests. A store that is handed others neither fails nor
// finds anything but what was recorded under them.
func testForeignDigests(t *testing.T, s facts.Store) {
	for _, d := range []digest.Digest{
		"sha256",
		"sha256:",
		"../../etc/passwd",
		"md5:d41d8cd98f00b204e9800998ecf8427e",
		"sha256:" + digest.Digest(strings.Repeat("A", 64)),
		"'; --",
	} {
		f := fact([]byte(d), oci.Structure{Blobs: []digest.Digest{d}})
		f.Manifest.Digest = d
		learn(t, s, f)

		wantParents(t, s, facts.PartBlob, d, d)
		wantParents(t, s, facts.PartManifest, d)
		wantSignatures(t, s, d)
		if m, ok, err := s.Manifest(t.Context(), repo, d); ok || err != nil || m.Bytes != nil {
			t.Errorf("manifest %q: %q, %v, %v; want none", d, m.Bytes, ok, err)
		}
	}
}

func testEvidence(t *testing.T, s facts.Store) {
	want := []facts.Signature{
		{
			Format:      facts.SimpleSigning,
			Source:      "the .sig tag",
			Payload:     []byte(`{"critical":{}}`),
			Annotations: map[string]string{"dev.cosignproject.cosign/signature": "MEUC", "a": "ü\x00\n"},
		},
		{Format: facts.Bundle, Source: "the referrers API", Payload: []byte{0, 0xff}},
		{Format: facts.Envelope, Payload: []byte("envelope")},
	}
	f := signed(index(digest.FromString("child")), want...)
	learn(t, s, f)

	wantSignatures(t, s, f.Manifest.Digest, want...)
}

func testEvidenceAge(t *testing.T, s facts.Store) {
	signature := facts.Signature{Format: facts.SimpleSigning, Payload: []byte("payload")}
	f := signed(index(digest.FromString("child")), signature)
	learn(t, s, f)

	for name, row := range map[string]struct {
		age  time.Duration
		most time.Duration
		want int
	}{
		"new":                  {0, time.Hour, 1},
		"as old as may be":     {time.Hour, time.Hour, 1},
		"too old":              {time.Hour + time.Microsecond, time.Hour, 0},
		"a clock set back":     {-time.Microsecond, time.Hour, 0},
		"no age, new":          {0, 0, 1},
		"no age, not new":      {time.Microsecond, 0, 0},
		"less than no age":     {0, -1, 0},
		"a century, long past": {100 * 365 * 24 * time.Hour, time.Hour, 0},
	} {
		got, err := s.Evidence(t.Context(), repo, f.Manifest.Digest, fetchedAt.Add(row.age), row.most)
		if err != nil || len(got.Signatures) != row.want {
			t.Errorf("%s: %v, %v; want %d", name, got, err, row.want)
		}
	}
}

// New evidence replaces the old; a fact without any leaves it.
func testReplacedEvidence(t *testing.T, s facts.Store) {
	first := facts.Signature{Format: facts.Bundle, Payload: []byte("first")}
	second := facts.Signature{Format: facts.Bundle, Payload: []byte("second")}
	f := index(digest.FromString("child"))

	learn(t, s, signed(f, first))
	learn(t, s, f)
	wantSignatures(t, s, f.Manifest.Digest, first)

	learn(t, s, signed(f, second))
	wantSignatures(t, s, f.Manifest.Digest, second)
}

// Evidence that is too large is not kept, and the fact is.
func testLargeEvidence(t *testing.T, s facts.Store) {
	child := digest.FromString("child")
	f := index(child)
	large := facts.Signature{Format: facts.Bundle, Payload: make([]byte, facts.MaxEvidenceBytes)}
	learn(t, s, signed(f, large))

	wantParents(t, s, facts.PartManifest, child, f.Manifest.Digest)
	wantSignatures(t, s, f.Manifest.Digest)
}

// What was learned in an epoch is known as long as that epoch lasts.
func testEpoch(t *testing.T, s facts.Store) {
	if s.Epoch(t.Context(), repo) == 0 {
		t.Error("the first epoch is 0, which says that a fact was never written")
	}
	learn(t, s, index(digest.FromString("first")))
	if first := s.Epoch(t.Context(), repo); first == s.Epoch(t.Context(), other) {
		t.Errorf("a repository of which nothing was learned is in epoch %d, too", first)
	}
	for i := range 10 {
		child := digest.FromString(fmt.Sprint("child", i))
		f := index(child)
		learned := learn(t, s, f)
		if now := s.Epoch(t.Context(), repo); learned.Epoch != now || now == 0 {
			t.Errorf("learned in epoch %d; it is %d", learned.Epoch, now)
		}
		wantParents(t, s, facts.PartManifest, child, f.Manifest.Digest)
	}
}

// The indexes of a repository are listed, the one that was learned last first.
func testIndexes(t *testing.T, s facts.Store) {
	want := func(list ...digest.Digest) {
		t.Helper()
		got, err := s.Indexes(t.Context(), repo)
		if err != nil || !slices.Equal(got, list) {
			t.Errorf("%v, %v; want %v", got, err, list)
		}
	}
	want()

	blobs := []digest.Digest{digest.FromString("blob")}
	learn(t, s, fact([]byte("an image"), oci.Structure{Kind: oci.Image, Blobs: blobs}))
	want()

	var newest []digest.Digest
	for i := range facts.MaxIndexes + 10 {
		f := index(digest.FromString(fmt.Sprint("child", i)))
		learn(t, s, f)
		newest = slices.Insert(newest, 0, f.Manifest.Digest)
	}
	newest = newest[:facts.MaxIndexes]
	want(newest...)

	again := index(digest.FromString("child20"))
	learn(t, s, again)
	want(moved(newest, again.Manifest.Digest)...)

	if got, err := s.Indexes(t.Context(), other); err != nil || len(got) != 0 {
		t.Errorf("of another repository: %v, %v", got, err)
	}
}

// When a registry last had a manifest is kept to the second, until it is said
// anew.
func testSeen(t *testing.T, s facts.Store) {
	want := func(d digest.Digest, at time.Time) {
		t.Helper()
		got, err := s.Seen(t.Context(), repo, d)
		if err != nil || !got.Equal(at) {
			t.Errorf("seen %s, %v; want %s", got, err, at)
		}
	}
	f := index(digest.FromString("child"))
	want(f.Manifest.Digest, time.Time{})

	learn(t, s, f)
	want(f.Manifest.Digest, time.Time{})

	f.SeenAt = fetchedAt
	learn(t, s, f)
	want(f.Manifest.Digest, fetchedAt)

	f.SeenAt = time.Time{}
	learn(t, s, f)
	want(f.Manifest.Digest, fetchedAt)

	f.SeenAt = fetchedAt.Add(time.Hour)
	learn(t, s, f)
	want(f.Manifest.Digest, fetchedAt.Add(time.Hour))
	want(digest.FromString("another"), time.Time{})
}

// Facts that are learned concurrently are all known, each as soon as its own
// Learn returns.
func testConcurrency(t *testing.T, s facts.Store) {
	const workers, each = 8, 6
	shared := digest.FromString("shared")
	var all sync.WaitGroup
	for i := range workers {
		all.Go(func() {
			for j := range each {
				if err := learnAndAsk(t.Context(), s, shared, fmt.Sprint(i, " ", j)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()

	got, err := s.Parents(t.Context(), repo, facts.PartManifest, shared)
	slices.Sort(got)
	if err != nil || len(slices.Compact(got)) != workers*each {
		t.Errorf("%d parents of the shared part, %v; want %d", len(got), err, workers*each)
	}
}

func learnAndAsk(ctx context.Context, s facts.Store, shared digest.Digest, name string) error {
	child := digest.FromString(name)
	f := signed(index(shared, child), facts.Signature{Format: facts.Bundle, Payload: []byte(name)})
	if _, err := s.Learn(ctx, f); err != nil {
		return err
	}

	parents, parentsErr := s.Parents(ctx, repo, facts.PartManifest, child)
	m, _, manifestErr := s.Manifest(ctx, repo, f.Manifest.Digest)
	evidence, evidenceErr := s.Evidence(ctx, repo, f.Manifest.Digest, fetchedAt, 0)
	if err := errors.Join(parentsErr, manifestErr, evidenceErr); err != nil {
		return err
	}

	signatures := evidence.Signatures
	if !slices.Equal(parents, []digest.Digest{f.Manifest.Digest}) || !bytes.Equal(m.Bytes, f.Manifest.Bytes) ||
		len(signatures) != 1 || string(signatures[0].Payload) != name {
		return fmt.Errorf("of %s: parents %v, manifest %q, signatures %v", name, parents, m.Bytes, signatures)
	}
	return nil
}
