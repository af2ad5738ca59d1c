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
func (b *Bolt) write(t *testing.T, key, record []byte) {
	t.Helper()
	err := b.db.Update(func(tx *bolt.Tx) error {
		r, err := createRepository(tx, testRepo)
		if err != nil {
			return err
		}
		return r.bucket.Bucket(generations[0]).Put(key, record)
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
	if err != nil || len(got.Signatures) != 1 {
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
		"indexes": func() error {
			_, err := b.Indexes(t.Context(), testRepo)
			return err
		},
		"seen": func() error {
			_, err := b.Seen(t.Context(), testRepo, d)
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

// TestFormerVersion: a state of the version before is begun afresh. What it held
// is learned again.
func TestFormerVersion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := openBolt(t, dir, 1<<20)
	err := b.db.Update(func(tx *bolt.Tx) error {
		if _, err := tx.CreateBucket([]byte("generation-0")); err != nil {
			return err
		}
		return tx.Bucket(metaBucket).Put(versionKey, []byte(formerVersion))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}

	for range 2 { // and is of this version then
		b = openBolt(t, dir, 1<<20)
		b.mustLearn(t, indexOf(0, digest.FromString("child")))
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
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
			b.write(t, imageKey(manifestRecord, d), []byte(row.record))
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
		"repositories": func(tx *bolt.Tx) error { return tx.DeleteBucket(repositoriesBucket) },
		"generation": func(tx *bolt.Tx) error {
			return tx.Bucket(repositoriesBucket).Bucket(repositoryKey(testRepo)).DeleteBucket(generations[0])
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := openBolt(t, t.TempDir(), 1<<20)
			b.mustLearn(t, indexOf(0, digest.FromString("known")))
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
	if now := b.Epoch(t.Context(), testRepo); now == before.Epoch {
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

// junkOf is a fact of another repository, of about 10 KiB.
func junkOf(repo string, i int) Fact {
	f := indexOf(10<<10, digest.FromString(fmt.Sprint(repo, i)))
	f.Repository = policy.Repository{Host: "r.example", Path: repo}
	return f
}

// TestJunk: what one repository learns does not push out what another has, and
// many do not push out what is asked for.
func TestJunk(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	child := digest.FromString("child")
	open := func(t *testing.T) *Bolt {
		t.Helper()
		b := openBolt(t, t.TempDir(), limit)
		b.db.NoSync = true // nothing here survives a crash
		b.mustLearn(t, indexOf(0, child))
		return b
	}
	known := func(t *testing.T, b *Bolt) bool {
		t.Helper()
		got, err := b.Parents(t.Context(), testRepo, PartManifest, child)
		if err != nil {
			t.Fatal(err)
		}
		return len(got) == 1
	}

	t.Run("one repository", func(t *testing.T) { // the other is not even asked for
		t.Parallel()
		b := open(t)
		epoch := b.Epoch(t.Context(), testRepo)
		for i := range 500 {
			b.mustLearn(t, junkOf("junk", i))
		}
		if !known(t, b) || b.Epoch(t.Context(), testRepo) != epoch {
			t.Error("what one repository learned has pushed out another's")
		}
	})

	t.Run("many repositories", func(t *testing.T) {
		t.Parallel()
		b := open(t)
		for i := range 500 {
			b.mustLearn(t, junkOf(fmt.Sprint("junk", i), i))
			if i%10 == 0 && !known(t, b) {
				t.Fatalf("what is asked for is forgotten after %d repositories", i)
			}
		}
		got, err := b.Indexes(t.Context(), policy.Repository{Host: "r.example", Path: "junk1"})
		if err != nil || len(got) > 0 {
			t.Errorf("500 repositories fit into %d bytes: %v, %v", limit, got, err)
		}
	})

	t.Run("many repositories, forgotten", func(t *testing.T) {
		t.Parallel()
		b := open(t)
		epoch := b.Epoch(t.Context(), testRepo)
		for i := range 500 {
			b.mustLearn(t, junkOf(fmt.Sprint("junk", i), i))
		}
		if !known(t, b) && b.Epoch(t.Context(), testRepo) == epoch {
			t.Error("facts are forgotten, and the epoch is the same")
		}
		again := b.mustLearn(t, indexOf(0, child))
		if !known(t, b) || again.Epoch == epoch || again.Epoch != b.Epoch(t.Context(), testRepo) {
			t.Errorf("learned again in epoch %d, after %d", again.Epoch, epoch)
		}
	})

	t.Run("size", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		b := openBolt(t, dir, limit)
		b.db.NoSync = true
		for i := range 600 {
			b.mustLearn(t, junkOf(fmt.Sprint("junk", i%7), i))
			b.mustLearn(t, junkOf(fmt.Sprint("other", i), i))
		}
		info, err := os.Stat(filepath.Join(dir, fileName))
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > 2*limit {
			t.Errorf("the file has %d bytes, %d are allowed", info.Size(), limit)
		}
	})

	t.Run("reopened", func(t *testing.T) { // it knows what each repository holds
		t.Parallel()
		dir := t.TempDir()
		b := openBolt(t, dir, limit)
		for i := range 30 {
			b.mustLearn(t, junkOf(fmt.Sprint("junk", i%3), i))
		}
		want := map[policy.Repository]int64{}
		for repo, held := range b.held.by {
			want[repo] = held.bytes
		}
		total := b.held.total
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}

		b = openBolt(t, dir, limit)
		if len(want) != 3 || len(b.held.by) != len(want) || b.held.total != total {
			t.Errorf("%d repositories of %d bytes, want %d of %d", len(b.held.by), b.held.total, len(want), total)
		}
		for repo, bytes := range want {
			if got := b.held.by[repo]; got == nil || got.bytes != bytes {
				t.Errorf("%s holds %+v, want %d bytes", repo, got, bytes)
			}
		}
	})
}

// TestAskedFor: a part that is asked for outlives the generation it was learned
// in, with the manifests that admit it.
func TestAskedFor(t *testing.T) {
	t.Parallel()
	b := openBolt(t, t.TempDir(), 256<<10)
	b.db.NoSync = true
	layer := digest.FromString("layer")
	image := indexOf(0)
	image.Manifest.Bytes = []byte("an image")
	image.Manifest.Digest = digest.FromBytes(image.Manifest.Bytes)
	image.Parts = oci.Structure{Kind: oci.Image, Blobs: []digest.Digest{layer}}
	image.SeenAt = time.Unix(1_800_000_000, 0)
	index := indexOf(0, image.Manifest.Digest)
	index.Evidence = &Evidence{FetchedAt: time.Now(), Signatures: []Signature{{Format: Bundle}}}
	unasked := indexOf(0, digest.FromString("unasked"))
	for _, f := range []Fact{index, image, unasked} {
		b.mustLearn(t, f)
	}

	for i := range 300 {
		b.mustLearn(t, indexOf(5<<10, digest.FromString(fmt.Sprint("child", i))))
		if got, err := b.Parents(t.Context(), testRepo, PartBlob, layer); err != nil || len(got) != 1 {
			t.Fatalf("after %d others: %v, %v", i, got, err)
		}
		if i%5 == 0 {
			time.Sleep(2 * time.Millisecond) // what is asked for is moved in the background
		}
	}

	got, err := b.Parents(t.Context(), testRepo, PartManifest, image.Manifest.Digest)
	if err != nil || !slices.Equal(got, []digest.Digest{index.Manifest.Digest}) {
		t.Errorf("what lists the image: %v, %v", got, err)
	}
	for _, f := range []Fact{image, index} {
		if _, ok, err := b.Manifest(t.Context(), testRepo, f.Manifest.Digest); !ok || err != nil {
			t.Errorf("a manifest that admits it: %v, %v", ok, err)
		}
	}
	if seen, err := b.Seen(t.Context(), testRepo, image.Manifest.Digest); err != nil || !seen.Equal(image.SeenAt) {
		t.Errorf("seen %s, %v", seen, err)
	}
	signatures, err := b.Evidence(t.Context(), testRepo, index.Manifest.Digest, time.Now(), time.Hour)
	if err != nil || len(signatures.Signatures) != 1 {
		t.Errorf("signatures: %v, %v", signatures, err)
	}
	if _, ok, err := b.Manifest(t.Context(), testRepo, unasked.Manifest.Digest); ok || err != nil {
		t.Errorf("what nothing asked for is kept: %v", err)
	}
}
