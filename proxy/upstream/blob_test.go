package upstream

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
)

func TestBlobDigest(t *testing.T) {
	t.Parallel()
	long := digest.SHA512.FromBytes(someBytes)
	tests := []struct {
		name string
		d    digest.Digest
		body []byte
		ok   bool
	}{
		{"sha256", someHash, someBytes, true},
		{"sha512", long, someBytes, true},
		{"empty", digest.FromString(""), nil, true},
		{"other bytes", someHash, []byte("other"), false},
		{"nothing", someHash, nil, false},
		{"one byte more", someHash, append(bytes.Clone(someBytes), '\n'), false},
		{"sha512, other bytes", long, []byte("other"), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, "http", "", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Docker-Content-Digest", tt.d.String())
				sendBlob(w, tt.body)
			})
			b, err := openBare(t, s.url, Auth{}).Blob(t.Context(), repo, tt.d, plenty)
			if got := s.requests()[0].uri; got != "/v2/acme/app/blobs/"+tt.d.String() {
				t.Errorf("asked for %s", got)
			}
			if !tt.ok {
				wantUpstream(t, err, http.StatusBadGateway)
				return
			}
			if err != nil || !bytes.Equal(b, tt.body) {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
}

func TestOpenBlob(t *testing.T) {
	t.Parallel()
	const content = "0123456789"
	tests := []struct {
		name, method, byteRange string
		status                  int
		contentRange            string
		body                    string
		wantStatus              int // 0: refused, with refused
		refused                 int
	}{
		{"whole", "GET", "", 200, "", content, 200, 0},
		{"HEAD", "HEAD", "", 200, "", content, 200, 0},
		{"range", "GET", "bytes=2-5", 206, "bytes 2-5/10", "2345", 206, 0},
		{"shorter than asked", "GET", "bytes=2-5", 206, "bytes 2-3/10", "23", 206, 0},
		{"asked beyond the end", "GET", "bytes=8-100", 206, "bytes 8-9/10", "89", 206, 0},
		{"asked to the end", "GET", "bytes=7-", 206, "bytes 7-9/10", "789", 206, 0},
		{"suffix longer than the blob", "GET", "bytes=-50", 206, "bytes 0-9/10", content, 206, 0},
		{"the last byte", "GET", "bytes=-1", 206, "bytes 9-9/10", "9", 206, 0},
		{"HEAD of a range", "HEAD", "bytes=2-5", 206, "bytes 2-5/10", "2345", 206, 0},
		{"suffix", "GET", "bytes=-4", 206, "bytes 6-9/10", "6789", 206, 0},
		{"the registry does not do ranges", "GET", "bytes=2-5", 200, "", content, 200, 0},
		{"outside", "GET", "bytes=20-30", 416, "bytes */10", "", 0, 416},
		{"outside, unasked", "GET", "", 416, "bytes */10", "", 0, 416},
		{"206 unasked", "GET", "", 206, "bytes 0-3/10", "0123", 0, 502},
		{"206 unasked for a HEAD", "HEAD", "", 206, "bytes 0-3/10", "", 0, 502},
		{"206 without Content-Range", "GET", "bytes=2-5", 206, "", "2345", 0, 502},
		// A part cannot be hashed, so it must at least be the one asked for.
		{"another part", "GET", "bytes=2-5", 206, "bytes 3-6/10", "3456", 0, 502},
		{"more than asked", "GET", "bytes=2-5", 206, "bytes 2-6/10", "23456", 0, 502},
		{"earlier than asked", "GET", "bytes=2-5", 206, "bytes 0-5/10", "012345", 0, 502},
		{"another suffix", "GET", "bytes=-4", 206, "bytes 5-9/10", "56789", 0, 502},
		{"the front for a suffix", "GET", "bytes=-4", 206, "bytes 0-3/10", "0123", 0, 502},
		{"fewer bytes than said", "GET", "bytes=2-5", 206, "bytes 2-5/10", "234", 0, 502},
		{"more bytes than said", "GET", "bytes=2-5", 206, "bytes 2-5/10", "23456", 0, 502},
		{"end before start", "GET", "bytes=5-2", 206, "bytes 5-2/10", "", 0, 502},
		{"end at the size", "GET", "bytes=2-10", 206, "bytes 2-10/10", "23456789x", 0, 502},
		{"unknown size of a suffix", "GET", "bytes=-4", 206, "bytes 6-9/*", "6789", 0, 502},
		{"size of nothing", "GET", "bytes=0-0", 206, "bytes 0-0/0", "0", 0, 502},
		{"suffix of nothing", "GET", "bytes=-0", 206, "bytes 9-9/10", "9", 0, 502},
		{"other unit", "GET", "bytes=2-5", 206, "items 2-5/10", "2345", 0, 502},
		{"no size", "GET", "bytes=2-5", 206, "bytes 2-5", "2345", 0, 502},
		{"no end", "GET", "bytes=2-5", 206, "bytes 2-/10", "2345", 0, 502},
		{"unsatisfied", "GET", "bytes=2-5", 206, "bytes */10", "2345", 0, 502},
		{"negative", "GET", "bytes=2-5", 206, "bytes -2-5/10", "2345", 0, 502},
		{"not a number", "GET", "bytes=2-5", 206, "bytes a-b/c", "2345", 0, 502},
		{"a number too long", "GET", "bytes=2-5", 206, "bytes 0-9999999999999999999/*", "2345", 0, 502},
		{"two ranges", "GET", "bytes=2-5", 206, "bytes 2-3/10, 4-5/10", "2345", 0, 502},
		{"something after it", "GET", "bytes=2-5", 206, "bytes 2-5/10; x=1", "2345", 0, 502},
		{"spaces", "GET", "bytes=2-5", 206, "bytes  2 - 5 / 10", "2345", 0, 502},
		{"not there", "GET", "", 404, "", "", 0, 404},
		{"304", "GET", "", 304, "", "", 0, 502},
		{"204", "GET", "", 204, "", "", 0, 502},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
				if tt.contentRange != "" {
					w.Header().Set("Content-Range", tt.contentRange)
				}
				if tt.status == 200 || tt.status == 206 {
					w.Header().Set("Content-Length", strconv.Itoa(len(tt.body)))
				}
				w.WriteHeader(tt.status)
				if q.Method == http.MethodGet && tt.body != "" {
					_, _ = io.WriteString(w, tt.body)
				}
			})
			b, err := openBare(t, s.url, Auth{}).OpenBlob(t.Context(), repo, someHash, tt.method, tt.byteRange)
			q := s.requests()
			asked := 1
			if tt.method == http.MethodHead && tt.wantStatus == 0 && tt.refused != 404 { // and then by GET
				asked = 2
			}
			if len(q) != asked || q[0].method != tt.method || q[0].header.Get("Range") != tt.byteRange ||
				q[0].uri != "/v2/acme/app/blobs/"+someHash.String() {
				t.Errorf("asked %+v", q)
			}
			if tt.wantStatus == 0 {
				wantUpstream(t, err, tt.refused)
				if b != nil {
					t.Error("a blob beside the error")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer b.Body.Close()
			wantRange, wantBody := "", tt.body
			if tt.wantStatus == 206 {
				wantRange = tt.contentRange
			}
			if tt.method == "HEAD" {
				wantBody = ""
			}
			if b.Size != int64(len(content)) {
				t.Errorf("size %d of the whole; want %d", b.Size, len(content))
			}
			if b.Status != tt.wantStatus || b.ContentRange != wantRange || b.ContentLength != int64(len(tt.body)) {
				t.Errorf("%+v", b)
			}
			if got, err := io.ReadAll(b.Body); err != nil || string(got) != wantBody {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// A part is passed on in one spelling, also where the registry does not say how
// large the whole is.
func TestContentRangeSpellings(t *testing.T) {
	t.Parallel()
	for said, want := range map[string]BlobResponse{
		"BYTES 2-5/10": {ContentRange: "bytes 2-5/10", Size: 10, Last: 5},
		"bytes 2-5/*":  {ContentRange: "bytes 2-5/*", Size: -1, Last: 5},
	} {
		s := serve(t, "http", "", always(206, map[string]string{"Content-Range": said}, "2345"))
		b, err := openBare(t, s.url, Auth{}).OpenBlob(t.Context(), repo, someHash, http.MethodGet, "bytes=2-5")
		if err != nil {
			t.Fatal(err)
		}
		_ = b.Body.Close()
		if b.Status != 206 || b.ContentLength != 4 || b.ContentRange != want.ContentRange || b.Size != want.Size ||
			b.Last != want.Last {
			t.Errorf("%s: %+v", said, b)
		}
	}
}

// The Content-Range of a 200 is dropped: with it a client would take the whole blob
// for a part.
func TestContentRangeOfWholeBlob(t *testing.T) {
	t.Parallel()
	s := serve(t, "http", "", always(200, map[string]string{"Content-Range": "bytes 2-5/10"}, "0123456789"))
	b, err := openBare(t, s.url, Auth{}).OpenBlob(t.Context(), repo, someHash, http.MethodGet, "bytes=2-5")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Body.Close()
	if b.ContentRange != "" {
		t.Errorf("%+v", b)
	}
}

func TestOpenBlobWithoutLength(t *testing.T) {
	t.Parallel()
	s := serve(t, "http", "", func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, "0123456789")
	})
	b, err := openBare(t, s.url, Auth{}).OpenBlob(t.Context(), repo, someHash, http.MethodGet, "")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Body.Close()
	if b.ContentLength != -1 || b.Size != -1 {
		t.Errorf("length %d, size %d", b.ContentLength, b.Size)
	}
}

// The first bytes arrive before the last ones are sent: nothing is collected.
func TestBlobStream(t *testing.T) {
	t.Parallel()
	more := make(chan struct{})
	s := serve(t, "http", "", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "first")
		_ = http.NewResponseController(w).Flush()
		<-more
		_, _ = io.WriteString(w, "last")
	})
	b, err := openBare(t, s.url, Auth{}).OpenBlob(t.Context(), repo, someHash, http.MethodGet, "")
	if err != nil {
		close(more)
		t.Fatal(err)
	}
	defer b.Body.Close()
	part := make([]byte, 5)
	_, err = io.ReadFull(b.Body, part)
	close(more)
	if err != nil || string(part) != "first" {
		t.Fatalf("%q, %v", part, err)
	}
	if rest, err := io.ReadAll(b.Body); err != nil || string(rest) != "last" {
		t.Errorf("%q, %v", rest, err)
	}
}

// A blob that breaks off must not look like a whole one.
func TestCutBlob(t *testing.T) {
	t.Parallel()
	s := serve(t, "http", "", func(w http.ResponseWriter, _ *http.Request) { cut(w, "half") })
	b, err := openBare(t, s.url, Auth{}).OpenBlob(t.Context(), repo, someHash, http.MethodGet, "")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Body.Close()
	if got, err := io.ReadAll(b.Body); err == nil {
		t.Errorf("a clean end after %q", got)
	}
}

// Blobs and manifests of a repository share a token.
func TestSharedToken(t *testing.T) {
	t.Parallel()
	r := &tokenRegistry{}
	s := serve(t, "http", "", r.ServeHTTP)
	u := openBare(t, s.url, Auth{})
	mustManifest(t, u)
	if _, err := u.Blob(t.Context(), repo, someHash, plenty); err != nil {
		t.Fatal(err)
	}
	b, err := u.OpenBlob(t.Context(), policy.Repository{
		Host: repo.Host,
		Path: repo.Path,
	}, someHash, http.MethodHead, "")
	if err != nil {
		t.Fatal(err)
	}
	_ = b.Body.Close()
	if n := r.count(); n != 1 {
		t.Errorf("%d tokens; want 1", n)
	}
}

// Without a length of the answer the range alone is checked.
func TestCheckRange(t *testing.T) {
	t.Parallel()
	tests := []struct {
		asked, got string
		part, size int64 // 0: refused
	}{
		{"bytes=2-5", "bytes 2-5/10", 4, 10},
		{"bytes=2-", "bytes 2-9/10", 8, 10},
		{"bytes=-3", "bytes 7-9/10", 3, 10},
		{
			"bytes=0-999999999999999999",
			"bytes 0-999999999999999997/999999999999999998",
			999999999999999998,
			999999999999999998,
		},
		{"bytes=2-5", "Bytes 2-5/10", 4, 10},
		{"bytes=2-5", "bytes 2-5/*", 4, -1},
		{"bytes=2-", "bytes 2-9/*", 8, -1},
		{"bytes=-3", "bytes 7-9/*", 0, 0},
		{"bytes=-3", "bytes 0-2/*", 0, 0},
		{"bytes=2-5", "bytes 2-6/*", 0, 0},
		{"bytes=2-5", "bytes 1-5/*", 0, 0},
		{"bytes=2-5", "bytes */10", 0, 0},
		{"bytes=2-5", "bytes 2-5/**", 0, 0},
		{"bytes=5-2", "bytes 5-2/10", 0, 0},
		{"bytes=5-", "bytes 5-4/10", 0, 0},
		{"bytes=10-", "bytes 10-10/10", 0, 0},
		{"bytes=2-5", "bytes 3-5/10", 0, 0},
		{"bytes=2-5", "bytes 2-6/10", 0, 0},
		{"bytes=2-5,7-8", "bytes 2-5/10", 0, 0},
		{"", "bytes 2-5/10", 0, 0},
		{"items=2-5", "bytes 2-5/10", 0, 0},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%q for %q", tt.got, tt.asked), func(t *testing.T) {
			p, err := checkRange(tt.asked, tt.got, -1)
			if (err == nil) != (tt.part != 0) || err == nil && (p.length() != tt.part || p.total != tt.size) {
				t.Errorf("asked %q, got %q: %d of %d, %v", tt.asked, tt.got, p.length(), p.total, err)
			}
		})
	}
}

// A HEAD that is not answered as a GET is asked as one, whose body is not read.
func TestHeadOfBlob(t *testing.T) {
	t.Parallel()
	content := strings.Repeat("0123456789", 1<<17)
	for _, status := range []int{400, 401, 403, 405, 406, 410, 500, 501, 502, 503, 307, 301, 206, 204} {
		for _, get := range []int{200, 404, 429} {
			t.Run(fmt.Sprintf("HEAD %d, GET %d", status, get), func(t *testing.T) {
				t.Parallel()
				s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
					switch {
					case q.Method == http.MethodHead && strings.HasPrefix(q.URL.Path, "/store"):
						w.WriteHeader(http.StatusForbidden)
					case q.Method == http.MethodHead:
						if status/100 == 3 {
							w.Header().Set("Location", "/store/x?signature=for-GET")
						}
						w.WriteHeader(status)
					case get != http.StatusOK:
						w.WriteHeader(get)
					default:
						w.Header().Set("Content-Length", strconv.Itoa(len(content)))
						_, _ = io.WriteString(w, content)
					}
				})
				b, err := openBare(t, s.url, Auth{}).OpenBlob(t.Context(), repo, someHash, http.MethodHead, "")
				if get != http.StatusOK {
					wantUpstream(t, err, get)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if rest, err := io.ReadAll(b.Body); err != nil || len(rest) > 0 || b.Size != int64(len(content)) {
					t.Errorf("%d bytes of %d, %v", len(rest), b.Size, err)
				}
			})
		}
	}
	for _, status := range []int{404, 429, 416} {
		t.Run(fmt.Sprintf("HEAD %d, which says it all", status), func(t *testing.T) {
			s := serve(t, "http", "", always(status, nil, ""))
			_, err := openBare(t, s.url, Auth{}).OpenBlob(t.Context(), repo, someHash, http.MethodHead, "")
			wantUpstream(t, err, status)
			if n := len(s.requests()); n != 1 {
				t.Errorf("%d requests", n)
			}
		})
	}
}
