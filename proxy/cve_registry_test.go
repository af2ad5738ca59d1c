package proxy_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/proxy/upstream"
	"github.com/pullgate/pullgate/test/hostile"
)

// thief is a server that should never be shown a credential.
type thief struct {
	*httptest.Server
	mu   sync.Mutex
	seen []string
}

func newThief(t *testing.T) *thief {
	t.Helper()
	th := &thief{}
	th.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		th.mu.Lock()
		th.seen = append(th.seen, req.Header.Get("Authorization"))
		th.mu.Unlock()
		_, _ = w.Write([]byte(`{"token":"stolen"}`))
	}))
	t.Cleanup(th.Close)
	return th
}

func (th *thief) requests() []string {
	th.mu.Lock()
	defer th.mu.Unlock()
	return th.seen
}

const gatePassword = "the-gates-own-password"

// withCredentials puts the gate's own credentials and a handler before the
// registry.
func (r *rig) withCredentials(t *testing.T, handler func(next http.Handler) http.Handler) {
	t.Helper()
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(gatePassword), 0o600); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler(r.reg))
	t.Cleanup(server.Close)
	r.reach(t, server.URL, nil, gateAuth(t, password))
}

// reach makes the gate ask reg.example at another address.
func (r *rig) reach(t *testing.T, at string, config *tls.Config, auth upstream.Auth) {
	t.Helper()
	base, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	up, err := upstream.New(upstream.Config{Host: "reg.example", URL: base, TLS: config, Auth: auth})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	r.upstreams["reg.example"] = up
	r.reload()
}

func challenges(w http.ResponseWriter, challenge string) {
	w.Header().Set("Www-Authenticate", challenge)
	w.WriteHeader(http.StatusUnauthorized)
}

func heapsInManifest(t *testing.T, r *rig) {
	image := r.signed("v1")
	for _, trick := range []hostile.Trick{hostile.ManyLayers, hostile.HugeManifest} {
		r.reg.On(trick.At(hostile.For("v1")))
		if g := r.get(manifests("prod/app", "v1")); g.status != 400 && g.status != 502 {
			t.Errorf("%s: %d", trick.Name, g.status)
		}
		r.mend()
	}
	for _, trick := range []hostile.Trick{hostile.ManyLayers, hostile.HugeManifest} {
		bad := r.reg.PushImage("prod/app", "")
		r.reg.Sign("prod/app", bad.Digest, newKey(t))
		r.reg.On(trick.At(hostile.SignatureTags))
		r.refuses(t, bad, "")
		r.mend()
	}
	r.serves(t, image)
}

func changingTag(t *testing.T, r *rig) {
	good, bad := r.signed(""), r.reg.PushImage("prod/app", "")
	for _, trick := range []hostile.Trick{
		hostile.Swap("v1", good.Digest, bad.Digest),
		hostile.Swap("v1", bad.Digest, good.Digest),
		hostile.Alternate("v1", good.Digest, bad.Digest),
		hostile.Alternate("v1", bad.Digest, good.Digest),
	} {
		r.reg.On(trick)
		for i := range 8 {
			method := []string{http.MethodHead, http.MethodGet}[i%2]
			g := r.do(method, manifests("prod/app", "v1"))
			served := g.header.Get("Docker-Content-Digest")
			isGood := served == good.Digest.String() &&
				(method == http.MethodHead || bytes.Equal(g.body, good.Manifest))
			if g.status == 200 && !isGood {
				t.Errorf("%s, %s: served %s", trick.Name, method, served)
			}
			if g.status != 200 && g.status != 403 {
				t.Errorf("%s, %s: %d %.200s", trick.Name, method, g.status, g.body)
			}
		}
		r.refuses(t, bad, "")
		r.mend()
		r.restart()
	}
}

func wordAboutDigest(t *testing.T, r *rig) {
	good, bad := r.signed("v1"), r.reg.PushImage("prod/app", "bad")
	// The bad bytes, under the good image's digest and signature.
	r.reg.On(hostile.OtherBytes(hostile.ImageType, bad.Manifest).At(func(q hostile.Request) bool {
		return q.Reference == "v1" || q.Reference == good.Digest.String()
	}))
	for _, reference := range []string{"v1", good.Digest.String()} {
		r.get(manifests("prod/app", reference)).refused(t, http.StatusBadGateway, "UNAVAILABLE")
	}
	r.mend()
	r.reg.On(hostile.LieAboutDigest)
	r.get(manifests("prod/app", "v1")).refused(t, http.StatusBadGateway, "UNAVAILABLE")
	r.mend()
	r.serves(t, good)
}

func realmElsewhere(t *testing.T, r *rig) {
	th := newThief(t)
	elsewhere := strings.Replace(th.URL, "127.0.0.1", "localhost", 1)
	r.signed("v1")
	for i, realm := range []string{
		elsewhere,
		elsewhere + "/127.0.0.1",
		strings.Replace(elsewhere, "http://", "http://127.0.0.1@", 1),
	} {
		r.withCredentials(t, func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				challenges(w, `Bearer realm="`+realm+`/token",service="127.0.0.1"`)
			})
		})
		if g := r.get(manifests("prod/app", fmt.Sprint("v", i))); g.status != 502 {
			t.Errorf("%s: %d", realm, g.status)
		}
	}
	if seen := th.requests(); len(seen) > 0 {
		t.Errorf("it was asked %d times, with %q", len(seen), seen)
	}
}

func redirectElsewhere(t *testing.T, r *rig) {
	th := newThief(t)
	image := r.signed("v1")
	r.withCredentials(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			switch {
			case req.Header.Get("Authorization") == "":
				challenges(w, `Basic realm="x"`)
			case strings.HasSuffix(req.URL.Path, "/blobs/"+image.Layers[0].String()),
				strings.HasSuffix(req.URL.Path, "/manifests/moved"):
				w.Header().Set("Location", th.URL+req.URL.Path)
				w.WriteHeader(http.StatusTemporaryRedirect)
			default:
				next.ServeHTTP(w, req)
			}
		})
	})
	r.get(manifests("prod/app", "v1")).served(t, image.Manifest)
	for _, path := range []string{blobs("prod/app", image.Layers[0]), manifests("prod/app", "moved")} {
		if g, err := r.try(t.Context(), http.MethodGet, path); err == nil && g.err == nil && g.status == 200 {
			t.Errorf("%s: the thief's bytes: %s", path, g.body)
		}
	}
	for _, authorization := range th.requests() {
		if authorization != "" {
			t.Errorf("it was shown %q", authorization)
		}
	}
	if len(th.requests()) == 0 {
		t.Error("no redirect was followed: the test says nothing")
	}
}

func manifestOfTwoKinds(t *testing.T, r *rig) {
	image, index := string(imageWith(1, "")), string(indexWith(1, ""))
	for i, c := range []struct{ contentType, body string }{
		{hostile.ImageType, strings.TrimSuffix(image, "}") + `,"manifests":[]}`},
		{hostile.IndexType, strings.TrimSuffix(index, "}") + `,"layers":[]}`},
		{hostile.IndexType, strings.TrimSuffix(index, "}") + `,"config":{}}`},
		{hostile.IndexType, image},
		{hostile.ImageType, index},
		{hostile.ImageType, strings.Replace(image, `"layers"`, `"Layers"`, 1)},
		{hostile.ImageType, strings.TrimSuffix(image, "}") + `,"layers":[]}`},
		{hostile.ImageType, image + index},
	} {
		d := r.reg.PushRaw("prod/app", fmt.Sprint("both", i), c.contentType, []byte(c.body))
		r.reg.Sign("prod/app", d, r.key) // truly signed, and still
		for _, reference := range []string{fmt.Sprint("both", i), d.String()} {
			r.get(manifests("prod/app", reference)).refused(t, http.StatusBadRequest, "MANIFEST_INVALID")
		}
	}
}

func digestInPath(t *testing.T, r *rig) {
	hex := strings.Repeat("a", 64)
	for _, d := range []string{
		"sha256:../../etc/passwd",
		"sha256:" + hex[:63],
		"sha256:" + hex + "a",
		"sha256:" + strings.ToUpper(hex),
		"md5:" + hex[:32],
		"sha384:" + strings.Repeat("a", 96),
		"sha256:" + hex[:62] + "/.",
		"SHA256:" + hex,
		"sha256+x:" + hex,
		":" + hex,
		"sha256:",
		"sha256:" + hex[:61] + "%2e",
	} {
		for _, kind := range []string{"manifests", "blobs", "referrers"} {
			if g := r.raw(http.MethodGet, "/v2/reg.example/prod/app/"+kind+"/"+d); g.status != 400 && g.status != 404 {
				t.Errorf("%s/%s: %d", kind, d, g.status)
			}
		}
		body := strings.Replace(string(imageWith(1, "")), fillerDigest, d, 1)
		listed := r.reg.PushRaw("prod/app", "", hostile.ImageType, []byte(body))
		r.reg.Sign("prod/app", listed, r.key)
		r.get(manifests("prod/app", listed)).refused(t, http.StatusBadRequest, "MANIFEST_INVALID")
		image := r.reg.PushImage("prod/app", "")
		r.layered(image.Digest, hostile.Layer{
			MediaType: hostile.SimpleSigningType,
			Digest:    digest.Digest(d),
			Size:      3,
		})
		r.refuses(t, image, "without a proper digest")
	}
	for _, q := range r.reg.Requests() {
		if strings.Contains(q.URI, "..") || strings.Contains(q.URI, "%") || strings.Contains(q.URI, "passwd") {
			t.Errorf("the registry was asked %s", q.URI)
		}
	}
}

func partOfRepository(t *testing.T, r *rig) {
	layer := random(500)
	image := r.reg.PushImage("prod/app", "v1", layer)
	r.reg.Sign("prod/app", image.Digest, r.key)
	for _, repo := range []string{"prod/other", "closed/app"} { // the registry has it there too
		r.reg.PushBlob(repo, layer)
	}
	secret := r.reg.PushBlob("prod/app", []byte("in no image"))
	r.serves(t, image)
	r.get(blobs("prod/app", image.Layers[0])).served(t, layer)
	r.refusedAt("another repository's", blobs("prod/other", image.Layers[0]))
	r.refusedAt("a closed repository's", blobs("closed/app", image.Layers[0]))
	r.refusedAt("a blob of no image", blobs("prod/app", secret))

	// Nor is a manifest another repository's, not even where all are admitted and
	// the gate has its bytes in memory or on disk.
	path := manifests("open/app", image.Digest)
	r.get(path).refused(t, http.StatusNotFound, "MANIFEST_UNKNOWN")
	r.get(blobs("open/app", image.Layers[0])).refused(t, http.StatusNotFound, "BLOB_UNKNOWN")
	r.restart()
	r.get(path).refused(t, http.StatusNotFound, "MANIFEST_UNKNOWN")
	r.reg.PushRaw("open/app", "", hostile.ImageType, image.Manifest)
	r.clock.advance(4 * time.Second) // the 404 was believed for three
	r.get(path).served(t, image.Manifest)

	r.key = newKey(t)
	r.reload()
	r.refusedAt("its image is no longer trusted", blobs("prod/app", image.Layers[0]))
}

func secretsInLog(t *testing.T, r *rig) {
	var mu sync.Mutex
	mixed := []string{}
	r.withCredentials(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path == "/token" {
				fmt.Fprintf(w, `{"token":"secret-%x"}`, req.URL.Query().Get("scope"))
				return
			}
			repo := strings.Join(strings.Split(req.URL.Path, "/")[2:4], "/")
			want := fmt.Sprintf("Bearer secret-%x", "repository:"+repo+":pull")
			switch got := req.Header.Get("Authorization"); got {
			case want:
				next.ServeHTTP(w, req)
			case "":
				challenges(w, `Bearer realm="http://`+req.Host+`/token",service="x"`)
			default:
				mu.Lock()
				mixed = append(mixed, repo+" "+got)
				mu.Unlock()
				w.WriteHeader(http.StatusForbidden)
			}
		})
	})
	for _, repo := range []string{"prod/app", "prod/other", "prod/app"} {
		image := r.reg.PushImage(repo, "v1")
		r.reg.Sign(repo, image.Digest, r.key)
		r.get(manifests(repo, "v1"), "Authorization", "Bearer of-the-client").served(t, image.Manifest)
	}
	r.get(manifests("prod/app", "gone"))
	mu.Lock()
	defer mu.Unlock()
	if len(mixed) > 0 {
		t.Errorf("tokens of one repository were shown for another: %q", mixed)
	}
	for _, secret := range []string{
		"secret-",
		gatePassword,
		base64.StdEncoding.EncodeToString([]byte("gate:" + gatePassword)),
		"of-the-client",
	} {
		if strings.Contains(r.log.String(), secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
}

func tokenWithoutTLS(t *testing.T, r *rig) {
	th := newThief(t)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(gatePassword), 0o600); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		challenges(w, `Bearer realm="`+th.URL+`/token"`)
	}))
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	for _, auth := range []upstream.Auth{{}, gateAuth(t, password)} {
		r.reach(t, server.URL, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, auth)
		if g := r.get(manifests("prod/app", "v1")); g.status != 502 {
			t.Errorf("%d %s", g.status, g.body)
		}
	}
	if seen := th.requests(); len(seen) > 0 {
		t.Errorf("it was asked %d times", len(seen))
	}
}

func largestPage(t *testing.T, r *rig) {
	for _, n := range []string{"10001", "9223372036854775807", "9223372036854775808", "-1", "1e9"} {
		if g := r.get("/v2/reg.example/prod/app/tags/list?n=" + n); g.status != 400 {
			t.Errorf("n=%s: %d", n, g.status)
		}
	}
	for _, path := range []string{"/v2/_catalog", "/v2/_catalog?n=1000000000", "/v2/reg.example/_catalog"} {
		if g := r.get(path); g.status != 404 && g.status != 400 {
			t.Errorf("%s: %d", path, g.status)
		}
	}
	if n := len(r.reg.Requests()); n > 0 {
		t.Errorf("%d requests upstream", n)
	}
}

func wordsOfClient(t *testing.T, r *rig) {
	image := r.reg.PushImage("prod/app", "v1")
	for _, header := range [][2]string{
		{"User-Agent", "cosign/v3.0.0"},
		{"User-Agent", "notation/1.0"},
		{"User-Agent", "trivy/0.1 (scanner)"},
		{"Authorization", "Basic YWRtaW46YWRtaW4="},
		{"X-Forwarded-For", "127.0.0.1"},
		{"X-Original-Url", "/v2/"},
		{"X-Rewrite-Url", "/v2/"},
		{"X-Http-Method-Override", "OPTIONS"},
		{"X-Pullgate-Skip", "true"},
		{"Pullgate-Decision", "x"},
		{"Accept", "application/vnd.dev.cosign.artifact.sig.v1+json"},
		{"Range", "bytes=0-0"},
		{"If-None-Match", `"` + image.Digest.String() + `"`},
		{"Cache-Control", "only-if-cached"},
		{"Host", "localhost"},
		{"Host", "reg.example"},
		{"Connection", "upgrade"},
		{"Content-Type", hostile.SimpleSigningType},
	} {
		for _, path := range []string{
			manifests("prod/app", "v1"),
			manifests("prod/app", image.Digest),
			blobs("prod/app", image.Layers[0]),
			blobs("prod/app", image.Config),
		} {
			if g := r.get(path, header[0], header[1]); g.status != 403 {
				t.Errorf("%s: %s: %s: %d", header[0], header[1], path, g.status)
			}
		}
	}
}
