package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"testing"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy"
	"github.com/pullgate/pullgate/test/hostile"
)

// shelf is where a test has its blobs.
type shelf struct {
	asked []proxy.BlobQuery
	body  io.Reader
}

func (s *shelf) OpenBlob(_ context.Context, q proxy.BlobQuery) (*proxy.Blob, error) {
	s.asked = append(s.asked, q)
	return &proxy.Blob{
		Status:        http.StatusOK,
		ContentLength: q.Size,
		Body:          io.NopCloser(s.body),
	}, nil
}

func TestBlobs(t *testing.T) {
	t.Parallel()
	layer := random(100_000)
	r, image := admitted(t, layer)
	other := r.reg.PushImage("prod/app", "unsigned", random(10))
	books := &shelf{}
	snapshot := r.snapshot()
	snapshot.Blobs = books
	r.proxy.Swap(snapshot)

	t.Run("served", func(t *testing.T) {
		books.body = bytes.NewReader(layer)
		r.get(blobs("prod/app", image.Layers[0])).served(t, layer)
		want := proxy.BlobQuery{
			Repository: policy.Repository{Host: "reg.example", Path: "prod/app"},
			Digest:     image.Layers[0],
			Size:       int64(len(layer)),
			Method:     http.MethodGet,
		}
		if !slices.Equal(books.asked, []proxy.BlobQuery{want}) {
			t.Errorf("asked for %+v", books.asked)
		}
	})

	t.Run("failing", func(t *testing.T) {
		books.body = io.MultiReader(bytes.NewReader(layer[:50_000]), failing{})
		if g := r.get(blobs("prod/app", image.Layers[0])); g.status != http.StatusOK || g.err == nil {
			t.Errorf("a clean %d with %d bytes", g.status, len(g.body))
		}
	})

	t.Run("refused", func(t *testing.T) {
		books.asked = nil
		r.refusedAt("a layer of no admitted image", blobs("prod/app", other.Layers[0]))
		if len(books.asked) > 0 {
			t.Errorf("asked for %+v before the verdict", books.asked)
		}
	})

	if n := r.reg.Count(hostile.Is(hostile.Blobs)); n > 0 {
		t.Errorf("the registry was asked for %d blobs", n)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("rotten") }
