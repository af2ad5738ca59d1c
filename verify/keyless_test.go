package verify_test

import (
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy/upstream"
	"github.com/pullgate/pullgate/test/fixtures"
	"github.com/pullgate/pullgate/test/fixtures/keyless"
	"github.com/pullgate/pullgate/verify"
	"github.com/pullgate/pullgate/verify/facts"
	"github.com/pullgate/pullgate/verify/sigs"
	"github.com/pullgate/pullgate/verify/trust"
)

// TestKeylessFixtures asks the whole gate about every image that real cosign
// signed or attested with certificates, under the policy that belongs to the
// question, at a registry with the referrers API and at one without.
func TestKeylessFixtures(t *testing.T) {
	t.Parallel()
	for _, noReferrers := range []bool{false, true} {
		set := keyless.Load(t)
		set.NoReferrers = noReferrers
		server := httptest.NewServer(set.Set)
		t.Cleanup(server.Close)
		base, err := url.Parse(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		up, err := upstream.New(upstream.Config{Host: "reg.example", URL: base})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range set.Cases {
			t.Run(fmt.Sprintf("%s/referrers=%v", c.Name, !noReferrers), func(t *testing.T) {
				gate := keylessGate(t, set, c, up)
				repo := policy.Repository{Host: "reg.example", Path: c.Repository}
				_, v, err := gate.Manifest(t.Context(), repo.Tagged(c.Tag), policy.Client{})
				if err != nil || v.Outcome.String() != c.Verdict {
					t.Fatalf("%s: %s by %s, %v, %v; want %s", c.Why, v.Outcome, v.Signer, err, v.Reasons, c.Verdict)
				}
				if c.Verdict == fixtures.Denied && !regexp.MustCompile("(?i)"+c.Reason).MatchString(v.Message()) {
					t.Errorf("%s: %q does not say %q", c.Why, v.Message(), c.Reason)
				}
				if c.Verdict == fixtures.Allowed && (v.Signer == "" || len(v.Findings) == 0) {
					t.Errorf("an allow without a signer: %+v", v)
				}
			})
		}
	}
}

// configOf is the case as a policy file.
func configOf(c keyless.Case) string {
	text := "policies:\n" + c.PolicyFor("reg.example")
	if c.TrustRoots != "" {
		text = "trustRoots: " + c.TrustRoots + "\n" + text
	}
	return text
}

func keylessGate(t *testing.T, set *keyless.Set, c keyless.Case, up *upstream.Upstream) *verify.Gate {
	t.Helper()
	dir := t.TempDir()
	if err := set.WriteFiles(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "policies.yaml"), []byte(configOf(c)), 0o600); err != nil {
		t.Fatal(err)
	}
	policies, problems := policy.Load(policy.Input{ConfigFile: "test", Dir: dir, Files: []string{"policies.yaml"}})
	if len(problems) > 0 {
		t.Fatalf("%v\n%s", problems, configOf(c))
	}
	keeper, err := trust.New(trust.Config{})
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := keeper.Use(policies)
	if err != nil {
		t.Fatal(err)
	}
	store, err := facts.OpenBolt(filepath.Join(dir, "state"), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	cache, err := verify.NewCache(1000, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cache.Close()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	gate, err := verify.New(verify.Config{
		Policies: policies, Trust: trusted, Store: store, Cache: cache,
		Registry: func(host string) (verify.Registry, bool) { return up, host == "reg.example" },
		Limits: verify.Limits{
			ManifestBytes:    4 << 20,
			Descriptors:      2000,
			PayloadBytes:     8 << 20,
			VerdictBytes:     16 << 20,
			Signatures:       64,
			VerdictsInFlight: 64,
			VerifyTimeout:    time.Minute,
			ClientMisses:     100,
		},
		TTL: time.Minute, DenyTTL: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	return gate
}

// TestChangedRoot: what was admitted under one root is not admitted
// from memory under the next one, nor while there is none.
func TestChangedRoot(t *testing.T) {
	t.Parallel()
	set := keyless.Load(t)
	server := httptest.NewServer(set.Set)
	t.Cleanup(server.Close)
	base, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	up, err := upstream.New(upstream.Config{Host: "reg.example", URL: base})
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(set.Cases, func(c keyless.Case) bool { return c.Name == "v3-rekor2" })
	c := set.Cases[at]
	first := keylessGate(t, set, c, up)
	ask := func(g *verify.Gate) (verify.Verdict, error) {
		repo := policy.Repository{Host: "reg.example", Path: c.Repository}
		_, v, err := g.Manifest(t.Context(), repo.Tagged(c.Tag), policy.Client{})
		return v, err
	}
	for _, hit := range []bool{false, true} {
		if v, err := ask(first); err != nil || v.Outcome != verify.Allowed || v.CacheHit != hit {
			t.Fatalf("%+v, %v", v, err)
		}
	}
	with := func(trust sigs.Trust) *verify.Gate {
		config := first.Config()
		config.Trust = trust
		g, err := verify.New(config)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	if v, err := ask(with(sigs.Trust{})); err == nil {
		t.Errorf("without the root: %+v", v)
	}
	text, err := set.File("trusted_root_github.json")
	if err != nil {
		t.Fatal(err)
	}
	other, err := sigs.ParseRoot("local", text)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := ask(
		with(sigs.Trust{Roots: map[string]*sigs.Root{"local": other}}),
	); err != nil ||
		v.Outcome != verify.Denied {
		t.Errorf("under another root: %+v, %v", v, err)
	}
	if v, err := ask(with(first.Config().Trust)); err != nil || v.Outcome != verify.Allowed || !v.CacheHit {
		t.Errorf("under the first one again: %+v, %v", v, err)
	}
}

// TestGitHubReminder: where an attestation would count and nothing
// at all is found, it may be that it was never pushed to the registry.
func TestGitHubReminder(t *testing.T) {
	t.Parallel()
	set := keyless.Load(t)
	server := httptest.NewServer(set.Set)
	t.Cleanup(server.Close)
	base, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	up, err := upstream.New(upstream.Config{Host: "reg.example", URL: base})
	if err != nil {
		t.Fatal(err)
	}
	const reminder = "push-to-registry: true"
	for accept, reminds := range map[string]bool{"[signature, slsaprovenance1]": true, "[signature]": false} {
		c := keyless.Case{
			Name:       "empty",
			Repository: "acme/v3-rekor2",
			Tag:        "v1",
			TrustRoots: "[{name: local, file: trusted_root.json}]",
			Policy: "signatureRepository: reg.example/acme/empty\n" +
				"authorities: [{github: {owner: acme, trustRoots: [local]}, accept: " + accept + "}]",
		}
		repo := policy.Repository{Host: "reg.example", Path: c.Repository}
		_, v, err := keylessGate(t, set, c, up).Manifest(t.Context(), repo.Tagged(c.Tag), policy.Client{})
		if err != nil || v.Outcome != verify.Denied || strings.Contains(v.Message(), reminder) != reminds {
			t.Errorf("%s: %s %q, %v", accept, v.Outcome, v.Message(), err)
		}
	}
}
