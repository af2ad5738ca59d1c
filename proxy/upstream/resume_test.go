package upstream

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// cutting serves content so that each answer breaks off after some bytes.
func cutting(content []byte, after int, rest func(w http.ResponseWriter, from int)) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		spec := strings.TrimSuffix(strings.TrimPrefix(q.Header.Get("Range"), "bytes="), "-")
		from, _ := strconv.Atoi(spec)
		if q.Header.Get("Range") != "" && rest != nil {
			rest(w, from)
			return
		}
		sendFrom(w, content, from, after)
	}
}

// sendFrom sends what is left of content, and breaks off after some bytes.
func sendFrom(w http.ResponseWriter, content []byte, from, after int) {
	w.Header().Set("Content-Length", strconv.Itoa(len(content)-from))
	if from > 0 {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(content)-1, len(content)))
		w.WriteHeader(http.StatusPartialContent)
	}
	end := min(from+after, len(content))
	_, _ = w.Write(content[from:end])
	_ = http.NewResponseController(w).Flush()
	if end < len(content) {
		panic(http.ErrAbortHandler)
	}
}

// A whole blob whose connection is cut goes on from there, and nothing else does.
func TestResume(t *testing.T) {
	t.Parallel()
	content := make([]byte, 100_000)
	for i := range content {
		content[i] = byte(rand.Uint32())
	}
	size := len(content)
	tests := map[string]struct {
		after int
		rest  func(w http.ResponseWriter, from int)
		ok    bool
		asked int
	}{
		"once":         {60_000, nil, true, 2},
		"often":        {30_000, nil, true, 4},
		"for ever":     {10_000, nil, false, 1 + maxResumes},
		"nothing more": {50_000, func(w http.ResponseWriter, from int) { sendFrom(w, content, from, 0) }, false, 2},
		"no ranges":    {50_000, func(w http.ResponseWriter, _ int) { sendBlob(w, content) }, false, 2},
		"another place": {50_000, func(w http.ResponseWriter, from int) {
			sendFrom(w, content, from+1, size)
		}, false, 2},
		"another size": {50_000, func(w http.ResponseWriter, from int) {
			sendFrom(w, append(content, 'x'), from, size)
		}, false, 2},
		"gone": {50_000, func(w http.ResponseWriter, _ int) { w.WriteHeader(http.StatusNotFound) }, false, 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, "http", "", cutting(content, tt.after, tt.rest))
			got, err := readBlob(t, openBare(t, s.url, Auth{}), "")
			if (err == nil) != tt.ok || tt.ok && !bytes.Equal(got, content) {
				t.Errorf("%d bytes of %d, %v", len(got), size, err)
			}
			if n := len(s.requests()); n != tt.asked {
				t.Errorf("%d requests; want %d", n, tt.asked)
			}
		})
	}

	t.Run("a range", func(t *testing.T) {
		s := serve(t, "http", "", func(w http.ResponseWriter, _ *http.Request) { sendFrom(w, content, 5, 1000) })
		if _, err := readBlob(t, openBare(t, s.url, Auth{}), "bytes=5-"); err == nil || len(s.requests()) != 1 {
			t.Errorf("%v after %d requests", err, len(s.requests()))
		}
	})

	t.Run("behind a redirect", func(t *testing.T) {
		issued := 0
		store := serve(t, "http", "", cutting(content, 60_000, nil))
		registry := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
			issued++
			http.Redirect(w, q, store.url+"/"+strconv.Itoa(issued), http.StatusTemporaryRedirect)
		})
		got, err := readBlob(t, openBare(t, registry.url, Auth{}), "")
		if err != nil || !bytes.Equal(got, content) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		if q := store.requests(); len(q) != 2 || q[1].uri != "/2" {
			t.Errorf("an URL that may have ended is asked again: %v", q)
		}
	})

	t.Run("other bytes", func(t *testing.T) { // are for the reader to find out
		lies := bytes.Repeat([]byte("x"), size)
		s := serve(t, "http", "", cutting(content, 50_000, func(w http.ResponseWriter, from int) {
			sendFrom(w, lies, from, size)
		}))
		got, err := readBlob(t, openBare(t, s.url, Auth{}), "")
		if err != nil || digest.FromBytes(got) == digest.FromBytes(content) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

func readBlob(t *testing.T, u *Upstream, byteRange string) ([]byte, error) {
	t.Helper()
	b, err := u.OpenBlob(t.Context(), repo, someHash, http.MethodGet, byteRange)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Body.Close()
	return io.ReadAll(b.Body)
}
