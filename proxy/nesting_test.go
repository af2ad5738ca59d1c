package proxy_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/test/hostile"
)

// cacheIndex pushes an index whose entries are blobs, as BuildKit's cache is.
func (r *rig) cacheIndex(tag string, layers ...[]byte) digest.Digest {
	r.t.Helper()
	index := hostile.Index{SchemaVersion: 2, MediaType: hostile.IndexType}
	for i, layer := range layers {
		mediaType := hostile.LayerType
		if i == len(layers)-1 {
			mediaType = "application/vnd.buildkit.cacheconfig.v0"
		}
		index.Manifests = append(index.Manifests, hostile.Descriptor{
			MediaType: mediaType,
			Digest:    r.reg.PushBlob("prod/app", layer),
			Size:      len(layer),
		})
	}

	body, err := json.Marshal(index)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.reg.PushRaw("prod/app", tag, hostile.IndexType, body)
}

// An index may list blobs: they are parts like the layers of an image, and no
// manifests.
func TestIndexOfBlobs(t *testing.T) {
	t.Parallel()
	layers := [][]byte{random(1000), random(2000), []byte(`{"layers":[]}`)}

	t.Run("signed", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		index := r.cacheIndex("cache", layers...)
		r.reg.Sign("prod/app", index, r.key)

		for range 2 { // and with nothing but the state
			r.get(manifests("prod/app", "cache")).served(t, r.reg.Manifest("prod/app", index))
			for _, layer := range layers {
				d := digest.FromBytes(layer)
				r.get(blobs("prod/app", d)).served(t, layer)
				if g := r.get(manifests("prod/app", d)); g.status == http.StatusOK {
					t.Error("an entry that is a blob is served as a manifest")
				}
			}
			r.restart()
		}
	})

	t.Run("unsigned", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.cacheIndex("cache", layers...)

		r.refusedAt("index", manifests("prod/app", "cache"))
		for _, layer := range layers {
			r.refusedAt("entry", blobs("prod/app", digest.FromBytes(layer)))
		}
	})

	t.Run("warn", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, withMode(policy.Warn))
		r.cacheIndex("cache", layers...)

		r.get(manifests("prod/app", "cache")).warned(t, "the index")
		for _, layer := range layers {
			r.get(blobs("prod/app", digest.FromBytes(layer))).warned(t, "an entry")
		}
	})

	t.Run("also as a manifest", func(t *testing.T) { // by an index that calls it one
		t.Parallel()
		r := newRig(t)
		index := r.cacheIndex("cache", layers...)
		body := strings.Replace(string(r.reg.Manifest("prod/app", index)), hostile.LayerType, hostile.ImageType, 1)
		liar := r.reg.PushRaw("prod/app", "liar", hostile.IndexType, []byte(body))
		r.reg.Sign("prod/app", index, r.key)
		r.reg.Sign("prod/app", liar, r.key)

		r.get(manifests("prod/app", "cache")).served(t, r.reg.Manifest("prod/app", index))
		r.get(manifests("prod/app", "liar")).served(t, []byte(body))
		r.get(blobs("prod/app", digest.FromBytes(layers[0]))).served(t, layers[0])
	})
}

// An index may stand inside an index inside an index. What is nested deeper is
// refused, and the refusal says why.
func TestNesting(t *testing.T) {
	t.Parallel()
	const note = "nested in more than 3 indexes"
	for name, row := range map[string]struct {
		indexes int
		status  int
	}{
		"three": {3, http.StatusOK},
		"four":  {4, http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			image := r.reg.PushImage("prod/app", "")
			chain := []digest.Digest{image.Digest}
			for i := range row.indexes {
				chain = append(chain, r.reg.PushIndex("prod/app", "", chain[i]))
			}
			r.reg.Sign("prod/app", chain[row.indexes], r.key)
			for i := row.indexes; i > 0; i-- { // from the outside, as a client does
				r.get(manifests("prod/app", chain[i])).served(t, r.reg.Manifest("prod/app", chain[i]))
			}

			g := r.get(manifests("prod/app", image.Digest))
			if g.status != row.status || strings.Contains(string(g.body), note) != (row.status != http.StatusOK) {
				t.Errorf("status %d, want %d: %s", g.status, row.status, g.body)
			}
			again := r.get(manifests("prod/app", image.Digest))
			if strings.Count(string(again.body), note) > 2 { // in the message and in its detail
				t.Errorf("said more than once: %s", again.body)
			}
		})
	}
}
