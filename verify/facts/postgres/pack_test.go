package postgres

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/facts"
)

// TestSeals: a sealed record is good for its own key, namespace and bytes.
func TestSeals(t *testing.T) {
	t.Parallel()
	ours, theirs := names{[]byte("a secret of the replicas")}, names{[]byte("another secret of others")}
	key, record := []byte("key"), []byte("record")
	sealed := ours.seal(key, record)
	if got, ok := ours.unseal(key, sealed); !ok || !bytes.Equal(got, record) {
		t.Errorf("%q, %v", got, ok)
	}

	for name, ok := range map[string]bool{
		"another key":       second(ours.unseal([]byte("kez"), sealed)),
		"another namespace": second(theirs.unseal(key, sealed)),
		"other bytes":       second(ours.unseal(key, append(bytes.Clone(sealed), 'x'))),
		"no seal":           second(ours.unseal(key, record)),
		"nothing":           second(ours.unseal(key, nil)),
		"a seal of nothing": second(ours.unseal(key, sealed[:sealBytes])),
	} {
		if ok {
			t.Errorf("%s: it is believed", name)
		}
	}
}

func second(_ []byte, ok bool) bool { return ok }

// TestKeys: no two things have one key, and none tells the repository's name.
func TestKeys(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	digests := []digest.Digest{digest.FromString("x"), digest.SHA512.FromString("x"), "sha256:x", ""}
	for _, n := range []names{{}, {[]byte("a secret of the replicas")}} {
		for _, path := range []string{"acme/app", "acme/app2", "acme"} {
			repo := policy.Repository{Host: "r.example", Path: path}
			keys := [][]byte{n.of(indexesOf, repo)}
			for _, kind := range []byte{'m', 'b', manifestOf, signaturesOf, seenOf} {
				for _, d := range digests {
					keys = append(keys, n.of(kind, repo, d))
				}
			}
			for _, key := range keys {
				if len(key) < 17 || bytes.Contains(key, []byte("acme")) || seen[string(key)] != "" {
					t.Errorf("key %q of %s is short, tells a name, or is that of %s", key, path, seen[string(key)])
				}
				seen[string(key)] = path
			}
		}
	}
	if key := (names{}).of('m', policy.Repository{}, digest.Digest(strings.Repeat("x", 300))); key != nil {
		t.Errorf("a digest of 300 bytes has the key %q", key)
	}
}

// TestLists: what comes out of the database is read as far as it makes sense, and
// never past its end.
func TestLists(t *testing.T) {
	t.Parallel()
	want := []digest.Digest{digest.FromString("x"), digest.SHA512.FromString("x"), "md5:x"}
	var list []byte
	for _, d := range want {
		list = append(list, element(d)...)
	}
	if got := elements(list); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	for n := range list {
		if got := elements(list[:n]); len(got) >= len(want) || !slices.Equal(got, want[:len(got)]) {
			t.Errorf("cut at %d: %v", n, got)
		}
	}
	if got := elements(bytes.Repeat(element(want[0]), 1000)); len(got) != facts.MaxParents {
		t.Errorf("%d digests of a list without an end", len(got))
	}
	for _, odd := range [][]byte{{0}, {1, 9}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}} {
		if got := elements(odd); len(got) != 0 {
			t.Errorf("%x: %v", odd, got)
		}
	}
}

// FuzzLists: no list breaks the reader.
func FuzzLists(f *testing.F) {
	f.Add(element(digest.FromString("x")))
	f.Fuzz(func(t *testing.T, list []byte) {
		if got := elements(list); len(got) > facts.MaxParents {
			t.Errorf("%d digests", len(got))
		}
	})
}
