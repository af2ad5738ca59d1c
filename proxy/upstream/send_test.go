package upstream

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"
)

// Neither a client's header nor one that the HTTP library adds reaches a registry:
// with them it could tell clients apart and answer them differently.
func TestRequestHeaders(t *testing.T) {
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
		t.Run(scheme, func(t *testing.T) {
			s := serve(t, scheme, "", handler)
			u := openBare(t, s.url, basicCredentials(t))
			mustManifest(t, u)
			if _, _, err := u.Resolve(t.Context(), repo, "latest"); err != nil {
				t.Fatal(err)
			}
			if _, err := u.Referrers(t.Context(), repo, someHash, plenty); err != nil {
				t.Fatal(err)
			}
			if _, _, err := u.Tags(t.Context(), repo, "n=5", plenty); err != nil {
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

			accept := map[string]string{
				"manifests": acceptManifests,
				"referrers": indexType,
				"tags":      "application/json",
			}
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
		})
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

// With cookies a registry could recognise a client.
func TestCookies(t *testing.T) {
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

// A client's trace context is a header of the client: it goes out only as part of a
// trace that is recorded here.
func TestClientTraceContext(t *testing.T) {
	t.Parallel()
	s := serve(t, "http", "", manifestHandler(someBytes))
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
