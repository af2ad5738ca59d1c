package upstream

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/policy"
)

func TestURLs(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, host, url, path, reference string
		want                             string
	}{
		{"default", "ghcr.io", "", "acme/app", "v1", "https://ghcr.io/v2/acme/app/manifests/v1"},
		{"default with a port", "reg.example:5000", "", "app", "v1", "https://reg.example:5000/v2/app/manifests/v1"},
		{
			"docker.io",
			"docker.io",
			"",
			"library/nginx",
			"latest",
			"https://registry-1.docker.io/v2/library/nginx/manifests/latest",
		},
		{
			"docker.io with a mirror",
			"docker.io",
			"https://mirror.example",
			"library/nginx",
			"latest",
			"https://mirror.example/v2/library/nginx/manifests/latest",
		},
		{
			"http when written out",
			"reg.example",
			"http://reg.example:5000",
			"app",
			"v1",
			"http://reg.example:5000/v2/app/manifests/v1",
		},
		{
			"a slash at the end",
			"reg.example",
			"https://reg.example/",
			"app",
			"v1",
			"https://reg.example/v2/app/manifests/v1",
		},
		{
			"base path",
			"docker.io",
			"https://harbor.example/dockerhub",
			"library/nginx",
			"v1",
			"https://harbor.example/v2/dockerhub/library/nginx/manifests/v1",
		},
		{
			"base path with a slash at the end",
			"docker.io",
			"https://harbor.example/dockerhub/",
			"library/nginx",
			"v1",
			"https://harbor.example/v2/dockerhub/library/nginx/manifests/v1",
		},
		{
			"base path of two parts",
			"docker.io",
			"https://harbor.example/a/b",
			"nginx",
			"v1",
			"https://harbor.example/v2/a/b/nginx/manifests/v1",
		},
		{
			"query, fragment and user of the base are not sent",
			"r.example",
			"https://u:p@r.example/a?x=1#f",
			"nginx",
			"v1",
			"https://r.example/v2/a/nginx/manifests/v1",
		},
		{"digest", "ghcr.io", "", "app", someHash.String(), "https://ghcr.io/v2/app/manifests/" + someHash.String()},
		// Parsed names hold none of these. One that did must stay a path of that
		// repository.
		{"a question mark", "ghcr.io", "", "app", "v1?x=1", "https://ghcr.io/v2/app/manifests/v1%3Fx=1"},
		{"a fragment", "ghcr.io", "", "app", "v1#x", "https://ghcr.io/v2/app/manifests/v1%23x"},
		{"a percent sign", "ghcr.io", "", "app", "v%2f1", "https://ghcr.io/v2/app/manifests/v%252f1"},
		{"dots are not followed", "ghcr.io", "", "a/../b", "v1", "https://ghcr.io/v2/a/../b/manifests/v1"},
		{"two slashes stay two", "ghcr.io", "", "a//b", "v1", "https://ghcr.io/v2/a//b/manifests/v1"},
		{"an at sign is no user", "ghcr.io", "", "a@b", "v1", "https://ghcr.io/v2/a@b/manifests/v1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := Config{Host: tt.host}
			if tt.url != "" {
				var err error
				if c.URL, err = url.Parse(tt.url); err != nil {
					t.Fatal(err)
				}
			}
			u, err := New(c)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(u.Close)
			if got := u.at(policy.Repository{
				Host: tt.host,
				Path: tt.path,
			}, "manifests", tt.reference).String(); got != tt.want {
				t.Errorf("got %s; want %s", got, tt.want)
			}
		})
	}
}

// The URL goes out as it was built: neither the client nor the transport cleans it.
func TestURLOnTheWire(t *testing.T) {
	t.Parallel()
	s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
		switch {
		case strings.Contains(q.URL.Path, "/referrers/"):
			sendIndex(w, "")
		case strings.Contains(q.URL.Path, "/tags/"):
			_, _ = w.Write([]byte(`{"tags":[]}`))
		default:
			sendManifest(w, someBytes)
		}
	})
	u := openBare(t, s.url+"/proxy/hub/", Auth{})
	nested := policy.Repository{Host: "registry.example", Path: "a/b/c__d/e-f.g"}
	if _, err := u.Manifest(t.Context(), nested.Tagged("V1.0_x-y"), plenty); err != nil {
		t.Fatal(err)
	}
	if _, _, err := u.Resolve(t.Context(), nested, "t"); err != nil {
		t.Fatal(err)
	}
	if _, err := u.Blob(t.Context(), nested, someHash, plenty); err != nil {
		t.Fatal(err)
	}
	if _, err := u.Referrers(t.Context(), nested, someHash, plenty); err != nil {
		t.Fatal(err)
	}
	if _, _, err := u.Tags(t.Context(), nested, "", plenty); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"manifests/V1.0_x-y",
		"manifests/t",
		"blobs/" + someHash.String(),
		"referrers/" + someHash.String(),
		"tags/list",
	}
	for i, q := range s.requests() {
		if q.uri != "/v2/proxy/hub/a/b/c__d/e-f.g/"+want[i] {
			t.Errorf("asked for %s", q.uri)
		}
		if q.host != s.name {
			t.Errorf("Host %s; want %s", q.host, s.name)
		}
	}
}

// The following pages of a list lie under the base path too.
func TestReferrersUnderBasePath(t *testing.T) {
	t.Parallel()
	path := "/v2/hub" + strings.TrimPrefix(referrersPath(), "/v2")
	s := serve(t, "http", "", pages(2, func(int) string { return path + "?page=1" }))
	r, err := openBare(t, s.url+"/hub", Auth{}).Referrers(t.Context(), repo, someHash, plenty)
	if err != nil || len(r.Descriptors) != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	// A link without the base path comes from behind a gateway that cuts it off.
	s = serve(t, "http", "", pages(2, func(int) string { return referrersPath() + "?page=1" }))
	r, err = openBare(t, s.url+"/hub", Auth{}).Referrers(t.Context(), repo, someHash, plenty)
	if err != nil || len(r.Descriptors) != 2 || s.requests()[1].uri != path+"?page=1" {
		t.Errorf("%+v, %v, asked for %v", r, err, s.requests())
	}
}

func TestBadURL(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"ftp://r.example",
		"//r.example",
		"r.example/path",
		"https:///path",
		"https:r.example",
		"unix:///run/x.sock",
		"",
	} {
		t.Run(text, func(t *testing.T) {
			at, err := url.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			if u, err := New(Config{Host: "r.example", URL: at}); err == nil {
				t.Errorf("%q became %s", text, u)
			}
		})
	}
	if _, err := New(Config{}); err == nil {
		t.Error("an upstream without a host")
	}
}

// New sends no request: a registry that is down at load time is no reason to refuse
// a configuration.
func TestNewOffline(t *testing.T) {
	t.Parallel()
	s := serve(t, "http", "", always(200, nil, ""))
	openBare(t, s.url, basicCredentials(t))
	if n := len(s.requests()); n != 0 {
		t.Errorf("%d requests", n)
	}
}
