package verify

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"

	"github.com/pullgate/pullgate/policy"
)

func openStore(t *testing.T) *Store {
	t.Helper()
	s, err := OpenStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // a test may have closed it already
	return s
}

func manifestOf(parts ...digest.Digest) (Manifest, Structure) {
	b := []byte(fmt.Sprint(parts))
	return Manifest{Bytes: b, MediaType: ociIndex, Digest: digest.FromBytes(b)}, Structure{Kind: Index, Manifests: parts}
}

func TestStoreRemembersPerRepository(t *testing.T) {
	s := openStore(t)
	child := digest.FromString("child")
	a, b := policy.Repository{Host: "r.example", Path: "a"}, policy.Repository{Host: "r.example", Path: "b"}
	m, parts := manifestOf(child)
	if err := s.learn(a, m, parts); err != nil {
		t.Fatal(err)
	}
	got, err := s.parents(a, partManifest, child)
	if err != nil || len(got) != 1 || got[0] != m.Digest {
		t.Fatalf("parents in a: %v, %v", got, err)
	}
	for name, ask := range map[string]func() ([]digest.Digest, error){
		"another repository": func() ([]digest.Digest, error) { return s.parents(b, partManifest, child) },
		"another kind":       func() ([]digest.Digest, error) { return s.parents(a, partBlob, child) },
		"another digest":     func() ([]digest.Digest, error) { return s.parents(a, partManifest, digest.FromString("x")) },
	} {
		if got, err := ask(); err != nil || len(got) != 0 {
			t.Errorf("%s: %v, %v; want nothing", name, got, err)
		}
	}
}

func TestStoreKeepsNewestParents(t *testing.T) {
	s := openStore(t)
	child, repo := digest.FromString("child"), policy.Repository{Host: "r.example", Path: "a"}
	var last digest.Digest
	for i := range keptParents + 10 {
		m, parts := manifestOf(child, digest.FromString(fmt.Sprint(i)))
		last = m.Digest
		if err := s.learn(repo, m, parts); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.parents(repo, partManifest, child)
	if err != nil || len(got) != keptParents || got[0] != last {
		t.Fatalf("%d parents, first %v, %v; want %d, first %v", len(got), got[:1], err, keptParents, last)
	}
}

func TestStoreIsLocked(t *testing.T) {
	dir := t.TempDir()
	s, err := OpenStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := OpenStore(dir); err == nil || !strings.Contains(err.Error(), "in use by another pullgate") {
		t.Fatalf("second process: %v", err)
	}
}

// A poisoned store names bytes that are not the digest's: they are not used.
func TestPoisonedManifestIsNotReturned(t *testing.T) {
	s := openStore(t)
	d := digest.FromString("true")
	err := s.db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket(manifestsBucket).Put([]byte(d), []byte("type\x00false"))
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := s.manifest(d); ok || err != nil {
		t.Fatalf("ok=%v err=%v", ok, err)
	}
}

func TestTornParentList(t *testing.T) {
	for _, b := range [][]byte{nil, {0xff}, {5, 'a'}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}} {
		_ = decodeDigests(b) // must end
	}
}

func TestForeignStateIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "facts.db"), []byte(strings.Repeat("not a database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := OpenStore(dir); err == nil {
		s.Close()
		t.Fatal("opened")
	}
}
