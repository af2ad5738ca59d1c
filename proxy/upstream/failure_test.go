package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pullgate/pullgate/verify/oci"
)

// A credential helper is a program: it runs to get credentials, never to word an
// error.
func TestErrorsWithoutHelper(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	script := "#!/bin/sh\necho run >> '" + log + "'\n" +
		`echo '{"Username":"` + testUser + `","Secret":"` + testPassword + `"}'` + "\n"
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-pullgate-test"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	runs := func() int {
		b, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}

		return strings.Count(string(b), "run\n")
	}

	tests := []struct {
		name string
		h    http.HandlerFunc
		want int
	}{
		{"404", always(404, nil, ""), 404},
		{"403", always(403, nil, ""), 403},
		{"429", always(429, nil, ""), 429},
		{"500", always(500, nil, ""), 503},
		{"401 without a challenge", always(401, nil, ""), 401},
		{"redirect without a target", always(307, nil, ""), 502},
		{"other bytes", always(200, map[string]string{"Docker-Content-Digest": "sha256:short"}, "{}"), 502},
		{"hangs up", func(w http.ResponseWriter, _ *http.Request) { cut(w, "") }, 503},
		{"hangs up in the body", func(w http.ResponseWriter, _ *http.Request) { cut(w, "{") }, 503},
		{"password refused", always(401, map[string]string{"Www-Authenticate": `Basic realm="x"`}, ""), 401},
		{"realm refused", func(w http.ResponseWriter, q *http.Request) {
			if q.URL.Path == "/token" {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			wants(w, bearer("http://"+q.Host+"/token"))
		}, 403},
		{"realm is busy", func(w http.ResponseWriter, q *http.Request) {
			if q.URL.Path == "/token" {
				w.WriteHeader(http.StatusTooManyRequests)
				return
			}
			wants(w, bearer("http://"+q.Host+"/token"))
		}, 429},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, "http", "", tt.h)
			u := openBare(t, s.url, dockerFrom(t, s.name, file(t, `{"credsStore":"pullgate-test"}`)))
			before := runs()

			const failures = 3
			for range failures {
				if e := wantUpstream(t, manifestOf(t, u), tt.want); !e.HadAuth {
					t.Error("HadAuth is not set")
				}
			}
			if n := runs() - before; n != 0 {
				t.Errorf("%d runs of the helper for %d failures", n, failures)
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
			name := fmt.Sprintf("%d %.10q, credentials %v", tt.status, tt.header, auth.Source != nil)
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				header := map[string]string{"Content-Type": ociManifest}
				if tt.header != "" {
					header["Retry-After"] = tt.header
				}
				s := serve(t, "http", "", always(tt.status, header, ""))
				fresh := func() *Upstream { return openBare(t, s.url, auth) } // a 429 pauses what comes after
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
				_, err := fresh().Manifest(t.Context(), repo.Tagged("latest"), plenty)
				check(err)
				_, err = fresh().Blob(t.Context(), repo, someHash, plenty)
				check(err)
				_, ok, err := fresh().Resolve(t.Context(), repo, "latest")
				if tt.status == 429 {
					check(err)
				} else if err != nil || ok { // asked by HEAD alone it says nothing
					t.Errorf("Resolve: %v, %v", ok, err)
				}
				_, _, err = fresh().Tags(t.Context(), repo, "", plenty)
				check(err)
				b, err := fresh().OpenBlob(t.Context(), repo, someHash, http.MethodGet, "")
				check(err)
				if b != nil {
					t.Error("a body beside the error")
				}
			})
		}
	}
}

func TestDeadServer(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			err := manifestOf(t, openBare(t, scheme+"://"+address, basicCredentials(t)))
			if e := wantUpstream(t, err, http.StatusServiceUnavailable); !e.HadAuth {
				t.Error("HadAuth is not set")
			}
		})
	}
}

func TestHangUp(t *testing.T) {
	t.Parallel()
	s := serve(t, "http", "", func(w http.ResponseWriter, _ *http.Request) { cut(w, "") })
	wantUpstream(t, manifestOf(t, openBare(t, s.url, Auth{})), http.StatusServiceUnavailable)
}

// The caller's context ends the wait at every stage of an answer.
func TestStalledServer(t *testing.T) {
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
			wants(w, bearer("http://"+q.Host+"/token"))
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
			_, _, err := u.Tags(ctx, repo, "", plenty)
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

// The cause of a context's end is the cause of the error.
func TestContextCause(t *testing.T) {
	t.Parallel()
	cause := errors.New("the client has gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	s := serve(t, "http", "", manifestHandler(someBytes))
	_, err := openBare(t, s.url, Auth{}).Manifest(ctx, repo.Tagged("latest"), plenty)
	wantUpstream(t, err, http.StatusServiceUnavailable)
	if !errors.Is(err, cause) {
		t.Error(err)
	}
}

// A status is known before its text: the gate does not wait for a text that a
// server drips out, even without a deadline.
func TestStalledRefusal(t *testing.T) {
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

// The URL of a blob store carries its access signature, and an error's text goes
// to the log.
func TestErrorsWithoutURL(t *testing.T) {
	t.Parallel()
	cause := errors.New("connection refused")
	at := "https://cdn.elsewhere.test/data?X-Signature=" + mark
	for name, err := range map[string]error{
		"as it is": &url.Error{Op: "Get", URL: at, Err: cause},
		"wrapped":  errors.Join(&url.Error{Op: "Get", URL: at, Err: cause}),
	} {
		t.Run(name, func(t *testing.T) {
			got := openBare(t, "https://registry.example", Auth{}).fail(t.Context(), err)
			e := wantUpstream(t, got, http.StatusServiceUnavailable)
			wantText(t, e, cause.Error())
			if strings.Contains(got.Error(), "cdn.elsewhere.test") {
				t.Errorf("the text shows where: %v", got)
			}
			if !errors.Is(got, cause) {
				t.Errorf("%v is not %v any more", got, cause)
			}
		})
	}
}

// No text of an error shows a password or a token, however the request fails.
func TestErrorsWithoutSecrets(t *testing.T) {
	t.Parallel()
	secretBlob := "/blob?X-Signature=" + mark
	failures := map[string]http.HandlerFunc{
		"connection cut": func(w http.ResponseWriter, _ *http.Request) { cut(w, "") },
		"status 500":     always(500, nil, mark),
		"status 404":     always(404, nil, mark),
		"other bytes":    func(w http.ResponseWriter, _ *http.Request) { sendManifest(w, []byte(mark)) },
		"redirect to cut": func(w http.ResponseWriter, q *http.Request) {
			http.Redirect(w, q, "/cut"+secretBlob, http.StatusTemporaryRedirect)
		},
		"redirect to dead": func(w http.ResponseWriter, q *http.Request) {
			http.Redirect(w, q, "http://127.0.0.1:1"+secretBlob, http.StatusTemporaryRedirect)
		},
		"redirect loop": func(w http.ResponseWriter, q *http.Request) {
			http.Redirect(w, q, q.URL.Path+"?s="+mark, http.StatusTemporaryRedirect)
		},
		"redirect with userinfo": func(w http.ResponseWriter, q *http.Request) {
			http.Redirect(w, q, "http://u:"+testPassword+"@127.0.0.1:1"+secretBlob, http.StatusTemporaryRedirect)
		},
		"redirect to no URL": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://%zz/"+mark)
			w.WriteHeader(307)
		},
		"redirect to another scheme": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "gopher://host"+secretBlob)
			w.WriteHeader(307)
		},
		"401 again":      func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) },
		"cut while read": func(w http.ResponseWriter, _ *http.Request) { cut(w, `{"part":`) },
	}
	for name, failure := range failures {
		for _, kind := range []string{"Basic", "Bearer"} {
			t.Run(name+", "+kind, func(t *testing.T) {
				t.Parallel()
				s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
					switch {
					case strings.HasPrefix(q.URL.Path, "/cut"):
						cut(w, "")
					case q.URL.Path == "/token":
						_, _ = w.Write([]byte(`{"token":"token-` + mark + `"}`))
					case q.Header.Get("Authorization") != "":
						failure(w, q)
					case kind == "Basic":
						wants(w, `Basic realm="x"`)
					default:
						wants(w, bearer("http://"+q.Host+"/token"))
					}
				})
				u := openBare(t, s.url, basicCredentials(t))
				_, errManifest := u.Manifest(t.Context(), repo.At(someHash), plenty)
				_, _, errResolve := u.Resolve(t.Context(), repo, "latest")
				_, errBlob := u.Blob(t.Context(), repo, someHash, plenty)
				_, errReferrers := u.Referrers(t.Context(), repo, someHash, plenty)
				_, _, errTags := u.Tags(t.Context(), repo, "", plenty)
				if errManifest == nil || errBlob == nil {
					t.Errorf("a failure went unnoticed: %v, %v", errManifest, errBlob)
				}
				for _, err := range []error{errManifest, errResolve, errBlob, errReferrers, errTags} {
					noSecret(t, err)
					var e *oci.UpstreamError
					if err != nil && !errors.As(err, &e) {
						t.Errorf("%v is no UpstreamError", err)
					}
				}
			})
		}
	}
}
