package upstream

import (
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

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
		// CVE-2023-47630: a registry that states a wrong digest is not believed at all.
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

// A registry may leave out the Content-Type; none is guessed.
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

// A malformed digest is refused, whatever bytes come for it.
func TestMalformedDigest(t *testing.T) {
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
		t.Run(d, func(t *testing.T) {
			if _, err := u.Manifest(t.Context(), repo.At(digest.Digest(d)), plenty); err == nil {
				t.Errorf("Manifest took %s", d)
			}
			if _, err := u.Blob(t.Context(), repo, digest.Digest(d), plenty); err == nil {
				t.Errorf("Blob took %s", d)
			}
		})
	}
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
		{"not asked right", 400, "", false},
		{"unauthorized", 401, "", false},
		{"forbidden", 403, "", false},
		{"not found", 404, "", false},
		{"not acceptable", 406, "", false},
		{"broken", 500, someHash.String(), false},
		{"not implemented", 501, "", false},
		{"bad gateway", 502, "", false},
		{"away", 503, "", false},
		{"moved without saying where", 301, "", false},
		{"another success", 204, someHash.String(), false},
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
			if q := s.to("/v2/acme/"); len(q) != 1 || q[0].method != http.MethodHead ||
				q[0].uri != "/v2/acme/app/manifests/v1.0" {
				t.Errorf("asked %+v", q)
			}
		})
	}
}

// A redirect that is signed for GET refuses a HEAD: that says nothing of the tag.
func TestResolveRedirected(t *testing.T) {
	t.Parallel()
	for _, location := range []string{"/store?signature=for-GET", "http://cdn.elsewhere.test/x", ""} {
		s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
			if q.URL.Path == "/store" {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			w.Header().Set("Location", location)
			w.WriteHeader(http.StatusTemporaryRedirect)
		})
		if _, ok, err := openBare(t, s.url, Auth{}).Resolve(t.Context(), repo, "v1"); ok {
			t.Errorf("%q: %v, %v", location, ok, err)
		}
	}
}
