package upstream

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// realmLab is a registry that names a realm on another site.
func realmLab(t *testing.T, scheme, registryName, realmName string) (registry, realm *site, r *tokenRegistry) {
	t.Helper()
	r = &tokenRegistry{}
	realm = serve(t, scheme, realmName, func(w http.ResponseWriter, _ *http.Request) { r.issue(w) })
	registry = serve(t, scheme, registryName, r.ServeHTTP)
	r.realm = realm.url + "/auth/token"
	return registry, realm, r
}

// CVE-2026-33540 (GHSA-3p65-76g6-3w7r): a registry's challenge alone must not
// send the credentials to another host.
func TestForeignRealm(t *testing.T) {
	t.Parallel()
	auths := map[string]func(t *testing.T, host string) Auth{
		"basic": func(t *testing.T, _ string) Auth { return basicCredentials(t) },
		"docker config": func(t *testing.T, host string) Auth {
			return dockerFrom(t, host, dockerConfig(t, host, testUser, testPassword))
		},
		"identity token": func(t *testing.T, host string) Auth {
			config := fmt.Sprintf(`{"auths":{%q:{"identitytoken":"identity-%s"}}}`, host, mark)
			return dockerFrom(t, host, file(t, config))
		},
		"another host listed": func(t *testing.T, _ string) Auth {
			a := basicCredentials(t)
			a.Realms = []string{"auth.trusted.example", "evil.example.trusted.example", "example", ".example", "*", ""}
			return a
		},
	}
	for name, auth := range auths {
		for _, scheme := range []string{"https", "http"} {
			t.Run(name+", "+scheme, func(t *testing.T) {
				t.Parallel()
				registry, thief, _ := realmLab(t, scheme, "registry.example", "auth.evil.example")
				u := open(t, registry.url, auth(t, registry.name), registry, thief)
				err := manifestOf(t, u)
				e := wantUpstream(t, err, http.StatusBadGateway)
				wantText(t, err, "auth.evil.example") // the admin must see which host to list
				if !e.HadAuth {
					t.Error("HadAuth is not set")
				}
				if n := len(thief.requests()); n != 0 {
					t.Errorf("the foreign realm got %d requests, with %q", n, thief.credentialsSeen())
				}
				if got := registry.credentialsSeen(); len(got) != 0 {
					t.Errorf("the registry got %q", got)
				}
			})
		}
	}
}

func TestListedRealm(t *testing.T) {
	t.Parallel()
	for _, listed := range []string{"auth.elsewhere.test", "AUTH.Elsewhere.Test"} {
		t.Run(listed, func(t *testing.T) {
			registry, realm, _ := realmLab(t, "https", "registry.example", "auth.elsewhere.test")
			auth := basicCredentials(t)
			auth.Realms = []string{"unrelated.test", listed}
			mustManifest(t, open(t, registry.url, auth, registry, realm))
			if got := realm.credentialsSeen(); !slices.Equal(got, []string{basicHeaderOf(testUser, testPassword)}) {
				t.Errorf("the realm got %q", got)
			}
			for _, got := range registry.credentialsSeen() {
				if strings.HasPrefix(got, "Basic") {
					t.Error("the registry got the password; the token is enough")
				}
			}
		})
	}
}

func TestRealmOfSameDomain(t *testing.T) {
	t.Parallel()
	registry, realm, _ := realmLab(t, "https", "registry.acme.co.uk", "auth.acme.co.uk")
	mustManifest(t, open(t, registry.url, basicCredentials(t), registry, realm))
	if got := realm.credentialsSeen(); len(got) != 1 {
		t.Errorf("the realm got %q", got)
	}
}

// Without credentials there is nothing to steal, and some public registries have
// their realm on another domain.
func TestAnonymousForeignRealm(t *testing.T) {
	t.Parallel()
	registry, realm, r := realmLab(t, "https", "registry.example", "auth.elsewhere.test")
	mustManifest(t, open(t, registry.url, Auth{}, registry, realm))
	if got := realm.credentialsSeen(); len(got) != 0 {
		t.Errorf("the realm got %q", got)
	}
	if n := r.count(); n != 1 {
		t.Errorf("%d tokens", n)
	}

	// A Docker config without an entry for this registry is the same.
	empty := dockerConfig(t, "other.example", "a", testPassword)
	registry, realm, _ = realmLab(t, "https", "registry.example", "auth.elsewhere.test")
	mustManifest(t, open(t, registry.url, dockerFrom(t, registry.name, empty), registry, realm))
	if got := realm.credentialsSeen(); len(got) != 0 {
		t.Errorf("the realm got %q", got)
	}
}

func TestPlainRealm(t *testing.T) {
	t.Parallel()
	listed := basicCredentials(t)
	listed.Realms = []string{"registry.example"}
	for _, auth := range []Auth{{}, basicCredentials(t), listed} {
		t.Run(fmt.Sprintf("credentials %v, listed %q", auth.Source != nil, auth.Realms), func(t *testing.T) {
			plain := serve(t, "http", "registry.example", func(w http.ResponseWriter, _ *http.Request) {
				_, _ = w.Write([]byte(`{"token":"abc"}`))
			})
			registry := serve(t, "https", "registry.example", func(w http.ResponseWriter, _ *http.Request) {
				wants(w, bearer("http://registry.example/token"))
			})
			err := manifestOf(t, open(t, registry.url, auth, registry, plain))
			wantUpstream(t, err, http.StatusBadGateway)
			if n := len(plain.requests()); n != 0 {
				t.Errorf("%d requests left without TLS", n)
			}
		})
	}
}

func TestRealmRule(t *testing.T) {
	t.Parallel()
	tests := []struct {
		base, realm string
		realms      []string
		want        bool
	}{
		// the registry's own host
		{"https://ghcr.io", "https://ghcr.io/token", nil, true},
		{"https://ghcr.io", "https://GHCR.IO/token", nil, true},
		{"https://GHCR.io", "https://ghcr.io/token", nil, true},
		{"https://ghcr.io", "https://ghcr.io:443/token", nil, true},
		{"https://reg.example:5000", "https://reg.example:5001/token", nil, true}, // one machine, one owner
		{"http://reg.example:5000", "http://reg.example:5001/token", nil, true},
		{"http://registry:5000", "http://registry:5001/token", nil, true}, // a name of one label
		// scheme
		{"https://ghcr.io", "http://ghcr.io/token", nil, false},
		{"http://reg.example", "https://reg.example/token", nil, true},
		{"https://ghcr.io", "http://auth.test/token", []string{"auth.test"}, false},
		{"https://ghcr.io", "ftp://ghcr.io/token", nil, false},
		// the same registrable domain
		{"https://registry-1.docker.io", "https://auth.docker.io/token", nil, true},
		{"https://registry-1.docker.io", "https://docker.io/token", nil, true},
		{"https://registry.gitlab.com", "https://gitlab.com/jwt/auth", nil, true},
		{"https://gitlab.com", "https://a.b.c.gitlab.com/jwt/auth", nil, true},
		{"https://registry.ACME.example", "https://Auth.acme.EXAMPLE/token", nil, true},
		{"https://registry.acme.co.uk", "https://auth.acme.co.uk/token", nil, true},
		// public suffixes have no owner
		{"https://registry.acme.co.uk", "https://auth.evil.co.uk/token", nil, false},
		{"https://acme.co.uk", "https://co.uk/token", nil, false},
		{"https://acme.github.io", "https://evil.github.io/token", nil, false},
		{"https://acme.com", "https://evil.com/token", nil, false},
		{"https://acme.internal", "https://evil.internal/token", nil, false},
		{"http://registry", "http://auth/token", nil, false},
		// look-alikes
		{"https://ghcr.io", "https://evil-ghcr.io/token", nil, false},
		{"https://ghcr.io", "https://ghcr.io.evil.example/token", nil, false},
		{"https://ghcr.io", "https://ghcr.io.", nil, false},
		{"https://ghcr.io", "https://ghcr.iо/token", nil, false}, // Cyrillic
		{"https://ghcr.io", "https://ghcr.io%2eevil.example/token", nil, false},
		{"https://azurecr.io", "https://azurecr.io.evil.example/token", nil, false},
		{"https://ghcr.io", "https://evil.example/ghcr.io/token", nil, false},
		{"https://ghcr.io", "https://evil.example/?ghcr.io", nil, false},
		{"https://ghcr.io", "https://.ghcr.io/token", nil, false},
		// addresses have no domain
		{"https://10.0.0.5", "https://10.0.0.5/token", nil, true},
		{"https://10.0.0.5:5000", "https://10.0.0.5:5001/token", nil, true},
		{"https://10.0.0.5", "https://10.9.0.5/token", nil, false}, // ends alike
		{"https://10.0.0.5", "https://10.0.0.6/token", nil, false},
		{"https://10.0.0.5", "https://evil.0.5/token", nil, false},
		{"https://[2001:db8::1]", "https://[2001:db8::1]:8443/token", nil, true},
		{"https://[2001:db8::1]", "https://[2001:db8::2]/token", nil, false},
		{"https://[::ffff:10.0.0.5]", "https://[::ffff:10.9.0.5]/token", nil, false},
		{"http://127.0.0.1:5000", "http://localhost:5000/token", nil, false},
		// listed
		{"https://ghcr.io", "https://auth.test/token", []string{"auth.test"}, true},
		{"https://ghcr.io", "https://AUTH.test/token", []string{"x.test", "Auth.Test"}, true},
		{"https://ghcr.io", "https://auth.test:8443/token", []string{"auth.test:8443"}, true},
		{"https://ghcr.io", "https://auth.test:8444/token", []string{"auth.test:8443"}, false},
		{"https://ghcr.io", "https://auth.test/token", []string{"auth.test:8443"}, false},
		{"https://ghcr.io", "https://auth.test:8443/token", []string{"auth.test"}, true},
		{"https://ghcr.io", "https://sub.auth.test/token", []string{"auth.test"}, false},
		{"https://ghcr.io", "https://auth.test/token", []string{""}, false},
		{"https://ghcr.io", "https://auth.test/token", []string{"*"}, false},
		{"https://ghcr.io", "https://10.1.2.3/token", []string{"10.1.2.3"}, true},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s to %s, listed %q", tt.base, tt.realm, tt.realms), func(t *testing.T) {
			base, err := url.Parse(tt.base)
			if err != nil {
				t.Fatal(err)
			}
			realm, err := url.Parse(tt.realm)
			if err != nil { // then no request is made of it either
				if tt.want {
					t.Error(err)
				}
				return
			}
			if got := (realms{base, tt.realms}).allow(realm); got != tt.want {
				t.Errorf("from %s to %s, listed %q: %v; want %v", tt.base, tt.realm, tt.realms, got, tt.want)
			}
		})
	}
}

// CVE-2025-27403: on a domain where every customer has a name, another name belongs
// to a stranger.
func TestSharedDomain(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ base, realm string }{
		{"https://acme.azurecr.io", "https://evil.azurecr.io/oauth2/token"},
		{"https://acme.azurecr.io", "https://EVIL.AzureCR.io/oauth2/token"},
		{"https://acme.jfrog.io", "https://evil.jfrog.io/v2/token"},
		{"https://1.dkr.ecr.us-east-1.amazonaws.com", "https://2.dkr.ecr.us-east-1.amazonaws.com/"},
		{"https://1.dkr.ecr.us-east-1.amazonaws.com", "https://evil.amazonaws.com/"},
		{"https://1.dkr.ecr.eusc-de-east-1.amazonaws.eu", "https://evil.amazonaws.eu/"},
		{"https://1.dkr-ecr.us-east-1.on.aws", "https://2.dkr-ecr.us-east-1.on.aws/"},
		{"https://1.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn", "https://2.x.on.amazonwebservices.com.cn/"},
		{"https://acme-registry.cn-beijing.cr.aliyuncs.com", "https://evil-registry.cn-beijing.cr.aliyuncs.com/"},
		{"https://acme.tencentcloudcr.com", "https://evil.tencentcloudcr.com/"},
		{"http://registry.team-a.svc.cluster.local", "http://x.team-b.svc.cluster.local/token"},
		{"http://registry.team-a.svc", "http://x.team-b.svc/token"},
		{"https://registry.acme.internal", "https://evil.acme.internal/token"},
	} {
		t.Run(tt.base+" to "+tt.realm, func(t *testing.T) {
			base, err := url.Parse(tt.base)
			if err != nil {
				t.Fatal(err)
			}
			realm, err := url.Parse(tt.realm)
			if err != nil {
				t.Fatal(err)
			}
			r := realms{base: base}
			if r.allow(realm) {
				t.Errorf("credentials for %s may go to %s", tt.base, tt.realm)
			}
			if !r.allow(base) {
				t.Errorf("credentials for %s may not go to itself", tt.base)
			}
			r.listed = []string{realm.Host}
			if !r.allow(realm) {
				t.Errorf("%s is listed", tt.realm)
			}
		})
	}
}
