package upstream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"go.opentelemetry.io/otel/trace"

	"github.com/pullgate/pullgate/verify/oci"
)

func always(status int, header map[string]string, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for k, v := range header {
			w.Header()[k] = []string{v}
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func TestManifest(t *testing.T) {
	t.Parallel()
	long := digest.SHA512.FromBytes(someBytes)
	other := digest.FromString("other")
	tests := []struct {
		name, reference string
		header          map[string]string
		body            string
		want            digest.Digest // "": refused with 502
		mediaType       string
	}{
		{"tag", "latest", nil, string(someBytes), someHash, ociManifest},
		{
			"tag, true header",
			"latest",
			map[string]string{"Docker-Content-Digest": someHash.String()},
			string(someBytes),
			someHash,
			ociManifest,
		},
		{
			"tag, true sha512 header",
			"latest",
			map[string]string{"Docker-Content-Digest": long.String()},
			string(someBytes),
			someHash,
			ociManifest,
		},
		// CVE-2023-47630: whoever lies about the digest may lie about anything.
		{
			"tag, lying header",
			"latest",
			map[string]string{"Docker-Content-Digest": other.String()},
			string(someBytes),
			"",
			"",
		},
		{
			"tag, lying sha512 header",
			"latest",
			map[string]string{"Docker-Content-Digest": digest.SHA512.FromString("x").String()},
			string(someBytes),
			"",
			"",
		},
		{
			"tag, malformed header",
			"latest",
			map[string]string{"Docker-Content-Digest": "sha256:short"},
			string(someBytes),
			"",
			"",
		},
		{
			"tag, upper case header",
			"latest",
			map[string]string{"Docker-Content-Digest": strings.ToUpper(someHash.String())},
			string(someBytes),
			"",
			"",
		},
		{
			"tag, header of a weak algorithm",
			"latest",
			map[string]string{"Docker-Content-Digest": "md5:" + strings.Repeat("0", 32)},
			string(someBytes),
			"",
			"",
		},
		{
			"tag, header of an unsupported algorithm",
			"latest",
			map[string]string{"Docker-Content-Digest": digest.SHA384.FromBytes(someBytes).String()},
			string(someBytes),
			"",
			"",
		},
		{"digest", someHash.String(), nil, string(someBytes), someHash, ociManifest},
		{"digest, sha512", long.String(), nil, string(someBytes), long, ociManifest},
		{
			"digest, the header does not count",
			someHash.String(),
			map[string]string{"Docker-Content-Digest": other.String()},
			string(someBytes),
			someHash,
			ociManifest,
		},
		{"digest, other bytes", other.String(), nil, string(someBytes), "", ""},
		{
			"digest, other bytes with a header to match",
			other.String(),
			map[string]string{"Docker-Content-Digest": other.String()},
			string(someBytes),
			"",
			"",
		},
		{"digest, one byte more", someHash.String(), nil, string(someBytes) + "\n", "", ""},
		{"digest, one byte less", someHash.String(), nil, string(someBytes[1:]), "", ""},
		{"digest, nothing", someHash.String(), nil, "", "", ""},
		{"digest, sha512, other bytes", long.String(), nil, "x", "", ""},
		{
			"media type without its parameters",
			"latest",
			map[string]string{"Content-Type": "Application/JSON; charset=utf-8"},
			string(someBytes),
			someHash,
			"application/json",
		},
		{
			"media type malformed",
			"latest",
			map[string]string{"Content-Type": "a/b/c;;"},
			string(someBytes),
			someHash,
			"",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			header := map[string]string{"Content-Type": ociManifest}
			maps.Copy(header, tt.header)
			s := serve(t, "http", "", always(200, header, tt.body))
			m, err := openBare(t, s.url, Auth{}).Manifest(t.Context(), referred(t, tt.reference), plenty)
			if tt.want == "" {
				wantUpstream(t, err, http.StatusBadGateway)
				if len(m.Bytes) > 0 && strings.Contains(tt.name, "tag") {
					t.Errorf("refused bytes were handed on: %q", m.Bytes)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if string(m.Bytes) != tt.body || m.Digest != tt.want || m.MediaType != tt.mediaType {
				t.Errorf("got %q, %s, %q", m.Bytes, m.Digest, m.MediaType)
			}
		})
	}
}

// The answer without a Content-Type is the registry's to give; none is guessed.
func TestManifestWithoutContentType(t *testing.T) {
	t.Parallel()
	s := serve(t, "http", "", func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil
		_, _ = w.Write(someBytes)
	})
	m, err := openBare(t, s.url, Auth{}).Manifest(t.Context(), repo.Tagged("latest"), plenty)
	if err != nil || m.MediaType != "" {
		t.Errorf("%q, %v", m.MediaType, err)
	}
}

// A digest that is none never was on the wire as one; the error says so.
func TestMalformedDigestIsRefused(t *testing.T) {
	t.Parallel()
	s := serve(t, "http", "", always(200, nil, string(someBytes)))
	u := openBare(t, s.url, Auth{})
	for _, d := range []string{
		"sha256:",
		"sha256:abc",
		"md5:" + strings.Repeat("0", 32),
		strings.ToUpper(someHash.String()),
		":" + someHash.Encoded(),
		digest.SHA384.FromBytes(someBytes).String(),
	} {
		if _, err := u.Manifest(t.Context(), repo.At(digest.Digest(d)), plenty); err == nil {
			t.Errorf("Manifest took %s", d)
		}
		if _, err := u.Blob(t.Context(), repo, digest.Digest(d), plenty); err == nil {
			t.Errorf("Blob took %s", d)
		}
	}
}

func TestAnswersBeyondTheLimitAreRefused(t *testing.T) {
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
				_, _, errTags := u.Tags(t.Context(), repo, "", "", limit)
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

// An endless answer is cut off at the limit, not read until memory ends.
func TestEndlessAnswerEnds(t *testing.T) {
	t.Parallel()
	s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Type", ociManifest)
		for q.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 32<<10)); err != nil {
				return
			}
		}
	})
	_, err := openBare(t, s.url, Auth{}).Manifest(t.Context(), repo.Tagged("latest"), 1000)
	if !errors.Is(err, oci.ErrTooLarge) {
		t.Error(err)
	}
}

// A body that ends early is no manifest, though the tag says nothing about it.
func TestShortAnswerIsRefused(t *testing.T) {
	t.Parallel()
	s := serve(t, "http", "", func(w http.ResponseWriter, _ *http.Request) { cut(w, "half") })
	u := openBare(t, s.url, Auth{})
	_, err := u.Manifest(t.Context(), repo.Tagged("latest"), plenty)
	wantUpstream(t, err, http.StatusServiceUnavailable)
}

func TestResolve(t *testing.T) {
	t.Parallel()
	long := digest.SHA512.FromBytes(someBytes)
	tests := []struct {
		name   string
		status int
		digest string
		ok     bool
	}{
		{"sha256", 200, someHash.String(), true},
		{"sha512", 200, long.String(), true},
		{"not said", 200, "", false},
		{"malformed", 200, "sha256:abc", false},
		{"upper case", 200, strings.ToUpper(someHash.String()), false},
		{"weak algorithm", 200, "md5:" + strings.Repeat("0", 32), false},
		{"unsupported algorithm", 200, digest.SHA384.FromBytes(someBytes).String(), false},
		{"an entity tag's quotes", 200, `"` + someHash.String() + `"`, false},
		{"HEAD is not allowed there", 405, "", false},
		{"HEAD is not allowed there, though a digest is said", 405, someHash.String(), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			header := map[string]string{"Content-Type": ociManifest}
			if tt.digest != "" {
				header["Docker-Content-Digest"] = tt.digest
			}
			s := serve(t, "http", "", always(tt.status, header, ""))
			d, ok, err := openBare(t, s.url, Auth{}).Resolve(t.Context(), repo, "v1.0")
			if err != nil {
				t.Fatal(err)
			}
			if ok != tt.ok || ok && d.String() != tt.digest {
				t.Errorf("%s, %v", d, ok)
			}
			if q := s.requests(); len(q) != 1 || q[0].method != http.MethodHead ||
				q[0].uri != "/v2/acme/app/manifests/v1.0" {
				t.Errorf("asked %+v", q)
			}
		})
	}
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	date := time.Now().Add(time.Minute).UTC().Format(http.TimeFormat)
	tests := []struct {
		status     int
		header     string // Retry-After
		want       int
		retryAfter string
	}{
		{status: 400, want: 400},
		{status: 401, want: 401},
		{status: 403, want: 403},
		{status: 404, want: 404},
		{status: 410, want: 410},
		{status: 418, want: 418},
		{status: 451, want: 451},
		{status: 429, want: 429},
		{status: 429, header: "120", want: 429, retryAfter: "120"},
		{status: 429, header: "0", want: 429, retryAfter: "0"},
		{status: 429, header: date, want: 429, retryAfter: date},
		{status: 429, header: "-1", want: 429},
		{status: 429, header: "1.5", want: 429},
		{status: 429, header: "soon", want: 429},
		{status: 429, header: "60, 61", want: 429},
		{status: 429, header: "６０", want: 429}, // digits, but not ASCII's
		{status: 429, header: strings.Repeat("9", 41), want: 429},
		{status: 500, want: 503},
		{status: 501, want: 501},
		{status: 502, want: 503},
		{status: 503, want: 503},
		{status: 503, header: "7", want: 503, retryAfter: "7"},
		{status: 504, want: 503},
		{status: 599, want: 503},
		{status: 302, want: 502}, // no Location
		{status: 304, want: 502}, // nothing conditional was asked
		{status: 300, want: 502},
		{status: 201, want: 502},
		{status: 202, want: 502},
		{status: 203, want: 502},
		{status: 204, want: 502},
		{status: 206, want: 502}, // no range was asked
		{status: 299, want: 502},
		{status: 600, want: 503},
		{status: 999, want: 503},
	}
	for _, tt := range tests {
		for _, auth := range []Auth{{}, basicCredentials(t)} {
			t.Run(
				fmt.Sprintf("%d %.10q, credentials %v", tt.status, tt.header, auth.Source != nil),
				func(t *testing.T) {
					t.Parallel()
					header := map[string]string{"Content-Type": ociManifest}
					if tt.header != "" {
						header["Retry-After"] = tt.header
					}
					s := serve(t, "http", "", always(tt.status, header, ""))
					u := openBare(t, s.url, auth)
					check := func(err error) {
						t.Helper()
						e := wantUpstream(t, err, tt.want)
						if e.RetryAfter != tt.retryAfter {
							t.Errorf("Retry-After %q; want %q", e.RetryAfter, tt.retryAfter)
						}
						if e.HadAuth != (auth.Source != nil) {
							t.Errorf("HadAuth %v", e.HadAuth)
						}
						if oci.IsNotFound(err) != (tt.status == 404) {
							t.Error("IsNotFound is wrong")
						}
					}
					_, err := u.Manifest(t.Context(), repo.Tagged("latest"), plenty)
					check(err)
					_, err = u.Blob(t.Context(), repo, someHash, plenty)
					check(err)
					_, _, err = u.Resolve(t.Context(), repo, "latest")
					check(err)
					_, _, err = u.Tags(t.Context(), repo, "", "", plenty)
					check(err)
					b, err := u.OpenBlob(t.Context(), repo, someHash, http.MethodGet, "")
					check(err)
					if b != nil {
						t.Error("a body beside the error")
					}
				},
			)
		}
	}
}

func TestDeadServerIsUnavailable(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	for _, scheme := range []string{"http", "https"} {
		err := manifestOf(t, openBare(t, scheme+"://"+address, basicCredentials(t)))
		if e := wantUpstream(t, err, http.StatusServiceUnavailable); !e.HadAuth {
			t.Error("HadAuth is not set")
		}
	}
}

func TestServerThatHangsUpIsUnavailable(t *testing.T) {
	t.Parallel()
	s := serve(t, "http", "", func(w http.ResponseWriter, _ *http.Request) { cut(w, "") })
	wantUpstream(t, manifestOf(t, openBare(t, s.url, Auth{})), http.StatusServiceUnavailable)
}

// Another CA's certificate, or another host's, is nobody's registry.
func TestTLSIsVerified(t *testing.T) {
	t.Parallel()
	s := serve(
		t,
		"https",
		"registry.example",
		func(w http.ResponseWriter, _ *http.Request) { sendManifest(w, someBytes) },
	)
	good := open(t, s.url, Auth{}, s)
	mustManifest(t, good)

	impostor := &site{name: "other.example", url: "https://other.example", address: s.address}
	err := manifestOf(t, open(t, impostor.url, Auth{}, impostor))
	wantUpstream(t, err, http.StatusServiceUnavailable)

	unknownCA, err := New(Config{Host: "registry.example"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(unknownCA.Close)
	tr := unknownCA.direct.(*http.Transport)
	tr.Proxy, tr.DialContext = nil, finder(s)
	wantUpstream(t, manifestOf(t, unknownCA), http.StatusServiceUnavailable)
	if n := len(s.requests()); n != 1 {
		t.Errorf("%d requests; want only the first", n)
	}
}

// Wherever a server stops answering, the caller's context ends the wait.
func TestStalledServerEndsWithTheContext(t *testing.T) {
	t.Parallel()
	stages := map[string]func(w http.ResponseWriter, q *http.Request, stall func()){
		"before the headers": func(_ http.ResponseWriter, _ *http.Request, stall func()) { stall() },
		"in the body": func(w http.ResponseWriter, _ *http.Request, stall func()) {
			w.Header().Set("Content-Type", indexType)
			_, _ = w.Write([]byte(`{"manifests":[`))
			_ = http.NewResponseController(w).Flush()
			stall()
		},
		"in the token": func(w http.ResponseWriter, q *http.Request, stall func()) {
			if q.URL.Path == "/token" {
				stall()
				return
			}
			challenge(w, bearer("http://"+q.Host+"/token"))
		},
		"in a redirect": func(w http.ResponseWriter, q *http.Request, stall func()) {
			if q.URL.Path == "/stall" {
				stall()
				return
			}
			http.Redirect(w, q, "/stall", http.StatusFound)
		},
	}
	operations := map[string]func(*Upstream, context.Context) error{
		"Manifest": func(u *Upstream, ctx context.Context) error {
			_, err := u.Manifest(ctx, repo.Tagged("latest"), plenty)
			return err
		},
		"Blob": func(u *Upstream, ctx context.Context) error { _, err := blob(u, ctx); return err },
		"Referrers": func(u *Upstream, ctx context.Context) error {
			_, err := u.Referrers(ctx, repo, someHash, plenty)
			return err
		},
		"Tags": func(u *Upstream, ctx context.Context) error {
			_, _, err := u.Tags(ctx, repo, "", "", plenty)
			return err
		},
	}
	for stage, handler := range stages {
		for name, operation := range operations {
			t.Run(name+" "+stage, func(t *testing.T) {
				t.Parallel()
				release := make(chan struct{})
				s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
					handler(w, q, func() {
						select {
						case <-q.Context().Done():
						case <-release:
						}
					})
				})
				t.Cleanup(func() { close(release) }) // before the server waits for its handlers
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				defer cancel()
				start := time.Now()
				err := operation(openBare(t, s.url, Auth{}), ctx)
				if waited := time.Since(start); waited > 1500*time.Millisecond {
					t.Errorf("it took %v", waited)
				}
				wantUpstream(t, err, http.StatusServiceUnavailable)
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%v does not say that the time was up", err)
				}
			})
		}
	}
}

// The reason a caller gives for leaving is the error's.
func TestCancelledContextKeepsItsCause(t *testing.T) {
	t.Parallel()
	cause := errors.New("the client has gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	s := serve(t, "http", "", func(w http.ResponseWriter, _ *http.Request) { sendManifest(w, someBytes) })
	_, err := openBare(t, s.url, Auth{}).Manifest(ctx, repo.Tagged("latest"), plenty)
	wantUpstream(t, err, http.StatusServiceUnavailable)
	if !errors.Is(err, cause) {
		t.Error(err)
	}
}

// No header of a client, and none of the HTTP library's own making, reaches a
// registry: it could tell clients apart, and answer them differently.
func TestUpstreamSeesOnlyTheHeadersItNeeds(t *testing.T) {
	t.Parallel()
	handler := withToken(func(w http.ResponseWriter, q *http.Request) {
		switch {
		case strings.Contains(q.URL.Path, "/referrers/"):
			w.Header().Set("Content-Type", indexType)
			_, _ = w.Write([]byte(`{"manifests":[]}`))
		case strings.Contains(q.URL.Path, "/tags/"):
			_, _ = w.Write([]byte(`{"tags":[]}`))
		default:
			sendManifest(w, someBytes)
		}
	})
	for _, scheme := range []string{"http", "https"} {
		s := serve(t, scheme, "", handler)
		u := openBare(t, s.url, basicCredentials(t))
		mustManifest(t, u)
		if _, _, err := u.Resolve(t.Context(), repo, "latest"); err != nil {
			t.Fatal(err)
		}
		if _, err := u.Referrers(t.Context(), repo, someHash, plenty); err != nil {
			t.Fatal(err)
		}
		if _, _, err := u.Tags(t.Context(), repo, "5", "", plenty); err != nil {
			t.Fatal(err)
		}
		if _, err := blob(u, t.Context()); err != nil {
			t.Fatal(err)
		}
		b, err := u.OpenBlob(t.Context(), repo, someHash, http.MethodGet, "bytes=0-1")
		if err != nil {
			t.Fatal(err)
		}
		_ = b.Body.Close()

		accept := map[string]string{"manifests": acceptManifests, "referrers": indexType, "tags": "application/json"}
		for _, q := range s.requests() {
			allowed := []string{"Accept-Encoding", "Authorization", "User-Agent"}
			want := map[string]string{"User-Agent": "pullgate/test", "Accept-Encoding": "identity"}
			if strings.HasPrefix(q.uri, "/v2/") {
				kind := strings.Split(q.uri, "/")[4]
				if a := accept[kind]; a != "" {
					want["Accept"] = a
					allowed = append(allowed, "Accept")
				}
				if kind == "blobs" {
					allowed = append(allowed, "Range")
				}
			}
			for name := range q.header {
				if !slices.Contains(allowed, name) {
					t.Errorf("%s %s carries %s: %q", q.method, q.uri, name, q.header[name])
				}
			}
			for name, value := range want {
				if got := q.header[name]; len(got) != 1 || got[0] != value {
					t.Errorf("%s %s: %s is %q; want %q", q.method, q.uri, name, got, value)
				}
			}
		}
		last := s.requests()[len(s.requests())-1]
		if got := last.header.Values("Range"); len(got) != 1 || got[0] != "bytes=0-1" {
			t.Errorf("Range %q", got)
		}
	}
	for _, kind := range []string{
		"oci.image.index.v1+json",
		"oci.image.manifest.v1+json",
		"docker.distribution.manifest.list.v2+json",
		"docker.distribution.manifest.v2+json",
	} {
		if !strings.Contains(acceptManifests, "application/vnd."+kind) {
			t.Errorf("%s is not accepted", kind)
		}
	}
	if strings.Contains(acceptManifests, "v1+prettyjws") || strings.Contains(acceptManifests, "*/*") {
		t.Error("schema 1 would be accepted")
	}
}

// Cookies would let a registry tell one pull from the next.
func TestCookiesAreNotKept(t *testing.T) {
	t.Parallel()
	s := serve(t, "http", "", func(w http.ResponseWriter, _ *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "track", Value: "1", Path: "/"})
		sendManifest(w, someBytes)
	})
	u := openBare(t, s.url, Auth{})
	mustManifest(t, u)
	mustManifest(t, u)
	for _, q := range s.requests() {
		if q.header.Get("Cookie") != "" {
			t.Error("a cookie came back")
		}
	}
}

// What was hashed is what is served: compressed bytes are other bytes.
func TestContentEncodingIsRefused(t *testing.T) {
	t.Parallel()
	for encoding, ok := range map[string]bool{
		"":               true,
		"identity":       true,
		"gzip":           false,
		"zstd":           false,
		"br":             false,
		"aws-chunked":    false,
		"gzip, identity": false,
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
			_, _, errTags := u.Tags(t.Context(), repo, "", "", plenty)
			b, errOpen := u.OpenBlob(t.Context(), repo, someHash, http.MethodGet, "")
			if b != nil {
				_ = b.Body.Close()
			}
			for _, err := range []error{errManifest, errResolve, errBlob, errReferrers, errTags, errOpen} {
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

// Headers without end are not read to their end.
func TestHugeHeadersAreRefused(t *testing.T) {
	t.Parallel()
	s := serve(t, "http", "", func(w http.ResponseWriter, _ *http.Request) {
		for i := range 40 {
			w.Header().Set("X-"+strconv.Itoa(i), strings.Repeat("x", 8<<10))
		}
		sendManifest(w, someBytes)
	})
	wantUpstream(t, manifestOf(t, openBare(t, s.url, Auth{})), http.StatusServiceUnavailable)
}

// A status is known before its text: a server that drips the text out holds
// nobody up, deadline or none.
func TestStalledTextOfARefusalIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	for _, status := range []int{302, 401, 404, 500} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			t.Parallel()
			release := make(chan struct{})
			s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
				if q.Header.Get("Authorization") != "" || q.URL.Path == "/there" {
					sendManifest(w, someBytes)
					return
				}
				w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
				w.Header().Set("Location", "/there")
				w.WriteHeader(status)
				_ = http.NewResponseController(w).Flush()
				select {
				case <-q.Context().Done():
				case <-release:
				}
			})
			t.Cleanup(func() { close(release) })
			start := time.Now()
			err := manifestOf(t, openBare(t, s.url, basicCredentials(t)))
			if waited := time.Since(start); waited > 1500*time.Millisecond {
				t.Errorf("it took %v", waited)
			}
			switch status {
			case 302, 401:
				if err != nil {
					t.Error(err)
				}
			case 404:
				wantUpstream(t, err, 404)
			default:
				wantUpstream(t, err, 503)
			}
		})
	}
}

// Answers held in memory are counted; who finds no room waits no longer than
// its context, and what is not held in memory needs no room.
func TestReadsInFlightAreBounded(t *testing.T) {
	t.Parallel()
	s := serve(t, "http", "", func(w http.ResponseWriter, _ *http.Request) { sendManifest(w, someBytes) })
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

// A trace that came in with a client's request is the client's own header; it
// goes out only as part of a trace that is recorded here.
func TestTraceContextOfAClientStaysHere(t *testing.T) {
	t.Parallel()
	s := serve(t, "http", "", func(w http.ResponseWriter, _ *http.Request) { sendManifest(w, someBytes) })
	u := openBare(t, s.url, Auth{})
	ctx := trace.ContextWithRemoteSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled, Remote: true,
	}))
	if _, err := u.Manifest(ctx, repo.Tagged("latest"), plenty); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Traceparent", "Tracestate", "Baggage"} {
		if got := s.requests()[0].header.Get(name); got != "" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// A length that is said to be too much is believed: nothing is read.
func TestTooLargeByItsLengthIsNotRead(t *testing.T) {
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
