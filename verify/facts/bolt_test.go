package facts

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
)

var testRepo = policy.Repository{Host: "r.example", Path: "a"}

func openBolt(t *testing.T, dir string, maxBytes int64) *Bolt {
	t.Helper()
	b, err := OpenBolt(dir, maxBytes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() }) // a test may have closed it already
	return b
}

// indexOf is the fact that an index lists parts, with that much padding.
func indexOf(padding int, parts ...digest.Digest) Fact {
	content := append([]byte(fmt.Sprint(parts)), make([]byte, padding)...)
	return Fact{
		Repository: testRepo,
		Manifest: oci.Manifest{
			Bytes:     content,
			MediaType: "application/vnd.oci.image.index.v1+json",
			Digest:    digest.FromBytes(content),
		},
		Parts: oci.Structure{Kind: oci.Index, Manifests: parts},
	}
}

func (b *Bolt) mustLearn(t *testing.T, f Fact) Learned {
	t.Helper()
	learned, err := b.Learn(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return learned
}

// write puts a record into the younger generation of a fresh state.
func (b *Bolt) write(t *testing.T, bucket, key, record []byte) {
	t.Helper()
	err := b.db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket(generations[0]).Bucket(bucket).Put(key, record)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestDurability: facts are on the disk when they are learned, so that a machine
// that loses its power forgets no image that it has served. No test can see
// that but in the state's options.
func TestDurability(t *testing.T) {
	t.Parallel()
	b := openBolt(t, t.TempDir(), 1<<20)
	if b.db.NoSync || b.db.NoGrowSync {
		t.Error("the state does not wait for the disk")
	}
}

func TestReopen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	child := digest.FromString("child")
	f := indexOf(0, child)
	f.Evidence = &Evidence{
		FetchedAt:  time.Now(),
		Signatures: []Signature{{Format: Bundle, Payload: []byte("payload")}},
	}
	first := openBolt(t, dir, 1<<20)
	first.mustLearn(t, f)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}

	second := openBolt(t, dir, 1<<20)

	if got, err := second.Parents(t.Context(), testRepo, PartManifest, child); err != nil || len(got) != 1 {
		t.Errorf("parents: %v, %v; want one", got, err)
	}
	if _, ok, err := second.Manifest(t.Context(), testRepo, f.Manifest.Digest); !ok || err != nil {
		t.Errorf("manifest: %v, %v; want it", ok, err)
	}
	got, err := second.Evidence(t.Context(), testRepo, f.Manifest.Digest, time.Now(), time.Hour)
	if err != nil || len(got) != 1 {
		t.Errorf("evidence: %v, %v; want one signature", got, err)
	}
}

func TestLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	openBolt(t, dir, 1<<30)
	if _, err := OpenBolt(dir, 1<<30); err == nil || !strings.Contains(err.Error(), "in use by another pullgate") {
		t.Fatalf("second process: %v", err)
	}
}

// TestClosed: a store that cannot be asked says so. A miss would let the gate
// deny what it admitted.
func TestClosed(t *testing.T) {
	t.Parallel()
	b := openBolt(t, t.TempDir(), 1<<20)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	d := digest.FromString("any")

	for name, ask := range map[string]func() error{
		"learn": func() error {
			_, err := b.Learn(t.Context(), indexOf(0, d))
			return err
		},
		"parents": func() error {
			_, err := b.Parents(t.Context(), testRepo, PartManifest, d)
			return err
		},
		"manifest": func() error {
			_, _, err := b.Manifest(t.Context(), testRepo, d)
			return err
		},
		"evidence": func() error {
			_, err := b.Evidence(t.Context(), testRepo, d, time.Now(), time.Hour)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := ask(); err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestForeignFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	content := []byte(strings.Repeat("not a database ", 1000))
	if err := os.WriteFile(filepath.Join(dir, fileName), content, 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := OpenBolt(dir, 1<<30); err == nil {
		b.Close()
		t.Fatal("opened")
	}
}

func TestForeignVersion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := openBolt(t, dir, 1<<20)
	err := b.db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket(metaBucket).Put(versionKey, []byte("1"))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}

	if _, err := OpenBolt(dir, 1<<20); err == nil || !strings.Contains(err.Error(), `has format "1"`) {
		t.Fatalf("opened a state of another version: %v", err)
	}
}

// TestPoisonedManifest: a state that holds other bytes under a digest returns
// none.
func TestPoisonedManifest(t *testing.T) {
	t.Parallel()
	b := openBolt(t, t.TempDir(), 1<<20)
	for name, row := range map[string]struct{ record, truth string }{
		"other bytes":      {"type\x00false", "true"},
		"no media type":    {"true", "true"},
		"no bytes":         {"type\x00", "true"},
		"empty":            {"", "true"},
		"nothing's digest": {"type\x00", ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := digest.FromString(row.truth)
			b.write(t, manifestsBucket, imageKey(testRepo, d), []byte(row.record))
			if m, ok, err := b.Manifest(t.Context(), testRepo, d); ok || err != nil || m.Bytes != nil {
				t.Fatalf("%q, ok=%v err=%v", m.Bytes, ok, err)
			}
		})
	}
}

// TestMissingBuckets: a damaged state is no empty one.
func TestMissingBuckets(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(tx *bolt.Tx) error{
		"generation": func(tx *bolt.Tx) error { return tx.DeleteBucket(generations[0]) },
		"records":    func(tx *bolt.Tx) error { return tx.Bucket(generations[0]).DeleteBucket(parentsBucket) },
	} {
		t.Run(name, func(t *testing.T) {
			b := openBolt(t, t.TempDir(), 1<<20)
			if err := b.db.Update(damage); err != nil {
				t.Fatal(err)
			}
			got, err := b.Parents(t.Context(), testRepo, PartManifest, digest.FromString("child"))
			if err == nil {
				t.Errorf("%v without an error", got)
			}
		})
	}
}

func TestTornParentList(t *testing.T) {
	t.Parallel()
	for _, record := range [][]byte{
		nil,
		{0xff},
		{5, 'a'},
		{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
	} {
		_ = decodeDigests(record) // must end
	}
}

// TestGenerations: the state does not grow beyond what is allowed, and what is
// learned again survives the elder generation.
func TestGenerations(t *testing.T) {
	t.Parallel()
	const limit = 2 << 20
	dir := t.TempDir()
	b := openBolt(t, dir, limit)
	b.db.NoSync = true // nothing here survives a crash

	first := digest.FromString("pulled once")
	used := indexOf(0, digest.FromString("used again and again"))
	before := b.mustLearn(t, indexOf(0, first))
	for i := range 1500 {
		b.mustLearn(t, indexOf(2500, digest.FromString(fmt.Sprint("child", i))))
		if i%100 == 0 {
			b.mustLearn(t, used)
		}
	}

	info, err := os.Stat(filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > 2*limit {
		t.Errorf("the file has %d bytes, %d are allowed", info.Size(), limit)
	}
	if _, ok, err := b.Manifest(t.Context(), testRepo, used.Manifest.Digest); !ok || err != nil {
		t.Errorf("what is used is forgotten: %v", err)
	}
	if got, err := b.Parents(t.Context(), testRepo, PartManifest, first); err != nil || len(got) != 0 {
		t.Errorf("what was used once long ago is still there: %v %v", got, err)
	}
	if now := b.Epoch(t.Context()); now == before.Epoch {
		t.Errorf("the epoch is %d still, though facts were forgotten", now)
	}
}

// TestElderParents: a part that is learned again keeps the parents that the
// elder generation holds, and both generations answer.
func TestElderParents(t *testing.T) {
	t.Parallel()
	b := openBolt(t, t.TempDir(), 64<<10)
	child, other := digest.FromString("child"), digest.FromString("other")
	elder, alone := indexOf(0, child, other), indexOf(0, child, digest.FromString("alone"))
	first := b.mustLearn(t, elder)
	b.mustLearn(t, indexOf(32<<10, digest.FromString("filler"))) // the next fact begins a generation

	if learned := b.mustLearn(t, alone); learned.Epoch != first.Epoch+1 {
		t.Fatalf("epoch %d after %d; want the next", learned.Epoch, first.Epoch)
	}

	for d, want := range map[digest.Digest][]digest.Digest{
		child: {alone.Manifest.Digest, elder.Manifest.Digest},
		other: {elder.Manifest.Digest},
	} {
		if got, err := b.Parents(t.Context(), testRepo, PartManifest, d); err != nil || !slices.Equal(got, want) {
			t.Errorf("parents %v, %v; want %v", got, err, want)
		}
	}
	if _, ok, err := b.Manifest(t.Context(), testRepo, elder.Manifest.Digest); !ok || err != nil {
		t.Errorf("a manifest of the elder generation: %v, %v; want it", ok, err)
	}
}
