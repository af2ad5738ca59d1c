package facts

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
)

// bigIndex is an index of one manifest, as registries write it.
func bigIndex(repo policy.Repository, n int) Fact {
	child := digest.FromString(fmt.Sprint("child ", n))
	content := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json",`+
		`"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":%q,"size":2}]}`, child)
	return Fact{
		Repository: repo,
		Manifest: oci.Manifest{
			Bytes:     content,
			MediaType: "application/vnd.oci.image.index.v1+json",
			Digest:    digest.FromBytes(content),
		},
		Parts:    oci.Structure{Kind: oci.Index, Manifests: []digest.Digest{child}},
		SeenAt:   time.Unix(1_800_000_000, 0),
		Evidence: &Evidence{FetchedAt: time.Unix(1_800_000_000, 0), Signatures: []Signature{{Format: Bundle}}},
	}
}

// TestEach: everything that is known comes once, with what belongs to it, and the
// first error ends it.
func TestEach(t *testing.T) {
	t.Parallel()
	b := openBolt(t, t.TempDir(), 1<<30)
	want := map[string]Fact{}
	for n := range 3*eachBatch + 1 {
		f := bigIndex(policy.Repository{Host: "r.example", Path: fmt.Sprint("a", n%2)}, n)
		if _, err := b.Learn(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		want[f.Repository.String()+f.Manifest.Digest.String()] = f
	}

	err := b.Each(t.Context(), func(f Fact) error {
		key := f.Repository.String() + f.Manifest.Digest.String()
		learned, ok := want[key]
		if !ok || string(f.Manifest.Bytes) != string(learned.Manifest.Bytes) || !f.SeenAt.Equal(learned.SeenAt) ||
			len(f.Parts.Manifests) != 1 || f.Parts.Manifests[0] != learned.Parts.Manifests[0] ||
			f.Evidence == nil || len(f.Evidence.Signatures) != 1 {
			t.Errorf("%s comes twice, or is %+v", key, f)
		}
		delete(want, key)
		return nil
	})
	if err != nil || len(want) != 0 {
		t.Errorf("%v; %d are left out", err, len(want))
	}

	calls, enough := 0, errors.New("enough")
	err = b.Each(t.Context(), func(Fact) error { calls++; return enough })
	if !errors.Is(err, enough) || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if err := b.Each(gone, func(Fact) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("without anyone who waits: %v", err)
	}
}

// TestTold: what was said at the end is true for the next process, and no longer:
// that one may learn something, and crash.
func TestTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	reopen := func(want, say string) {
		t.Helper()
		b, err := OpenBolt(dir, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if got := b.Told(); got != want {
			t.Errorf("told %q; want %q", got, want)
		}
		if say != "" {
			if err := b.SetTold(say); err != nil {
				t.Error(err)
			}
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	reopen("", "the first store")
	reopen("the first store", "")
	reopen("", "")
}
