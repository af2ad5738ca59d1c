package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/verify/oci"
)

func TestAnswerLimit(t *testing.T) {
	t.Parallel()
	const limit = 100
	tests := []struct {
		name string
		size int
		ok   bool
	}{{"below", limit - 1, true}, {"at", limit, true}, {"one above", limit + 1, false}, {"far above", 5 << 20, false}}
	for _, tt := range tests {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s the limit, chunked %v", tt.name, chunked), func(t *testing.T) {
				t.Parallel()
				body := []byte(strings.Repeat("x", tt.size))
				s := serve(t, "http", "", func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", ociManifest)
					if chunked {
						_ = http.NewResponseController(w).Flush()
					} else {
						w.Header().Set("Content-Length", strconv.Itoa(tt.size))
					}
					_, _ = w.Write(body)
				})
				u := openBare(t, s.url, Auth{})
				m, errManifest := u.Manifest(t.Context(), repo.Tagged("latest"), limit)
				b, errBlob := u.Blob(t.Context(), repo, digest.FromBytes(body), limit)
				_, _, errTags := u.Tags(t.Context(), repo, "", limit)
				if tt.ok {
					if errManifest != nil || errBlob != nil {
						t.Errorf("%v, %v", errManifest, errBlob)
					}
					return
				}
				for _, err := range []error{errManifest, errBlob, errTags} {
					wantUpstream(t, err, http.StatusBadGateway)
					if !errors.Is(err, oci.ErrTooLarge) {
						t.Errorf("%v does not wrap ErrTooLarge", err)
					}
				}
				if len(m.Bytes)+len(b) > 0 {
					t.Error("some bytes were handed on")
				}
			})
		}
	}
}

// A long answer is cut off at the limit, not read to its end.
func TestEndlessAnswer(t *testing.T) {
	t.Parallel()
	const written = 64 << 20 // bytes; far more than a connection holds on its way
	var ended atomic.Bool
	s := serve(t, "http", "", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", ociManifest)
		part := make([]byte, 32<<10)
		for range written / len(part) {
			if _, err := w.Write(part); err != nil {
				return
			}
		}
		ended.Store(true)
	})

	_, err := openBare(t, s.url, Auth{}).Manifest(t.Context(), repo.Tagged("latest"), 1000)
	if !errors.Is(err, oci.ErrTooLarge) {
		t.Error(err)
	}
	if ended.Load() {
		t.Error("it was read to its end")
	}
}

// A body that ends early is no manifest, even without a digest to compare.
func TestShortAnswer(t *testing.T) {
	t.Parallel()
	s := serve(t, "http", "", func(w http.ResponseWriter, _ *http.Request) { cut(w, "half") })
	u := openBare(t, s.url, Auth{})
	_, err := u.Manifest(t.Context(), repo.Tagged("latest"), plenty)
	wantUpstream(t, err, http.StatusServiceUnavailable)
}

// Of an answer whose length is too large nothing is read.
func TestTooLargeByLength(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Length", "1000000000000")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-q.Context().Done():
		case <-release:
		}
	})
	t.Cleanup(func() { close(release) })
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := openBare(t, s.url, Auth{}).Manifest(ctx, repo.Tagged("latest"), plenty)
	wantUpstream(t, err, http.StatusBadGateway)
	if !errors.Is(err, oci.ErrTooLarge) {
		t.Error(err)
	}
}

// Answers in memory are counted: a request that finds no room waits until its
// context ends, and one whose answer is not held in memory does not wait.
func TestReadsInFlight(t *testing.T) {
	t.Parallel()
	s := serve(t, "http", "", manifestHandler(someBytes))
	u := openBare(t, s.url, Auth{})
	for range maxReads {
		u.reads <- struct{}{}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := u.Manifest(ctx, repo.Tagged("latest"), plenty)
	wantUpstream(t, err, http.StatusServiceUnavailable)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if _, _, err := u.Resolve(t.Context(), repo, "latest"); err != nil {
		t.Error(err)
	}
	b, err := u.OpenBlob(t.Context(), repo, someHash, http.MethodGet, "")
	if err != nil {
		t.Fatal(err)
	}
	_ = b.Body.Close()
	<-u.reads
	for range 3 { // room is given back
		mustManifest(t, u)
	}
	if _, err := u.Manifest(t.Context(), repo.Tagged("latest"), 1); !errors.Is(err, oci.ErrTooLarge) {
		t.Error(err)
	}
	mustManifest(t, u) // after a failure too
}

// Parsed JSON takes far more memory than its bytes, so the number of its parts is
// limited too.
func TestTooManyParts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		commas int
		ok     bool
	}{{maxParts - 10, true}, {maxParts + 1, false}} {
		t.Run(fmt.Sprintf("%d commas", tt.commas), func(t *testing.T) {
			s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
				list := `"manifests":[{"mediaType":"x"}],"pad":"`
				if strings.Contains(q.URL.Path, "/tags/") {
					list = `"tags":["a"],"pad":"`
				}
				w.Header().Set("Content-Type", indexType)
				_, _ = io.WriteString(w, `{`+list+strings.Repeat(",", tt.commas)+`"}`)
			})
			u := openBare(t, s.url, Auth{})
			_, errReferrers := u.Referrers(t.Context(), repo, someHash, plenty)
			_, _, errTags := u.Tags(t.Context(), repo, "", plenty)
			for _, err := range []error{errReferrers, errTags} {
				if tt.ok {
					if err != nil {
						t.Error(err)
					}
					continue
				}
				wantUpstream(t, err, http.StatusBadGateway)
				if !errors.Is(err, oci.ErrTooLarge) {
					t.Errorf("%v does not wrap ErrTooLarge", err)
				}
			}
		})
	}
}

// The bytes that are served are the bytes that were hashed, never compressed ones.
func TestContentEncoding(t *testing.T) {
	t.Parallel()
	for encoding, ok := range map[string]bool{
		"":                       true,
		"identity":               true,
		"gzip":                   false,
		"zstd":                   false,
		"br":                     false,
		"Identity":               true,
		"identity, IDENTITY":     true,
		"aws-chunked":            true, // of the upload, long ago
		"AWS-Chunked, identity":  true,
		"GZIP":                   false,
		"gzip, identity":         false,
		"aws-chunked, gzip":      false,
		"aws-chunked, x-unknown": false,
	} {
		t.Run(encoding, func(t *testing.T) {
			t.Parallel()
			s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
				if encoding != "" {
					w.Header().Set("Content-Encoding", encoding)
				}
				switch {
				case strings.Contains(q.URL.Path, "/referrers/"):
					w.Header().Set("Content-Type", indexType)
					_, _ = w.Write([]byte(`{"manifests":[]}`))
				case strings.Contains(q.URL.Path, "/tags/"):
					_, _ = w.Write([]byte(`{"tags":[]}`))
				default:
					w.Header().Set("Docker-Content-Digest", someHash.String())
					sendManifest(w, someBytes)
				}
			})
			u := openBare(t, s.url, Auth{})
			_, errManifest := u.Manifest(t.Context(), repo.Tagged("latest"), plenty)
			_, _, errResolve := u.Resolve(t.Context(), repo, "latest")
			_, errBlob := blob(u, t.Context())
			_, errReferrers := u.Referrers(t.Context(), repo, someHash, plenty)
			_, _, errTags := u.Tags(t.Context(), repo, "", plenty)
			b, errOpen := u.OpenBlob(t.Context(), repo, someHash, http.MethodGet, "")
			if b != nil {
				_ = b.Body.Close()
			}
			if errResolve != nil {
				t.Error(errResolve)
			}
			for _, err := range []error{errManifest, errBlob, errReferrers, errTags, errOpen} {
				if ok && err != nil {
					t.Error(err)
				}
				if !ok {
					wantUpstream(t, err, http.StatusBadGateway)
				}
			}
		})
	}
}
