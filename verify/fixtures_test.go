package verify_test

import (
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy/upstream"
	"github.com/pullgate/pullgate/test/fixtures"
	"github.com/pullgate/pullgate/verify"
	"github.com/pullgate/pullgate/verify/facts"
)

// TestFixtures asks the whole gate about every image that real cosign signed,
// at a registry with the referrers API and at one without.
func TestFixtures(t *testing.T) {
	t.Parallel()
	for _, noReferrers := range []bool{false, true} {
		set := fixtures.Load(t)
		set.NoReferrers = noReferrers
		server := httptest.NewServer(set)
		t.Cleanup(server.Close)
		base, err := url.Parse(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		up, err := upstream.New(upstream.Config{Host: "reg.example", URL: base})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range set.Fixtures {
			t.Run(fmt.Sprintf("%s/referrers=%v", f.Name, !noReferrers), func(t *testing.T) {
				gate := gateFor(t, set, f, up)
				repo := policy.Repository{Host: "reg.example", Path: f.Repository}
				_, v, err := gate.Manifest(t.Context(), repo.Tagged(f.Tag), policy.Client{})
				if err != nil || v.Outcome.String() != f.Verdict {
					t.Fatalf("%s: %s, %v, %v; want %s", f.Why, v.Outcome, err, v.Reasons, f.Verdict)
				}
				if v.Outcome == verify.Denied && len(v.Reasons) == 0 {
					t.Error("a denial without a reason")
				}
				if v.Outcome == verify.Allowed && v.Signer == "" {
					t.Error("an allow without a signer")
				}
			})
		}
	}
}

// gateFor trusts the fixture's keys, and demands its annotations.
func gateFor(t *testing.T, set *fixtures.Set, f fixtures.Fixture, up *upstream.Upstream) *verify.Gate {
	t.Helper()
	dir := t.TempDir()
	var keys []string
	for i, name := range f.Keys {
		text, err := set.Key(name)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, fmt.Sprintf("%d.pub", i))
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, file)
	}
	var signed []string
	for name, value := range f.Annotations {
		signed = append(signed, fmt.Sprintf("%q: %q", name, value))
	}
	sort.Strings(signed)
	text := fmt.Sprintf(
		"[{name: fixture, images: [\"reg.example/**\"], authorities: [{keys: [%s]}], annotations: {%s}}]",
		strings.Join(keys, ", "),
		strings.Join(signed, ", "),
	)
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	policies, problems := policy.Load(policy.Input{ConfigFile: "test", Inline: doc.Content[0]})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	store, err := facts.OpenBolt(dir, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	cache, err := verify.NewCache(1000, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cache.Close)
	gate, err := verify.New(verify.Config{
		Policies: policies, Store: store, Cache: cache, TTL: time.Hour, DenyTTL: time.Minute,
		Registry: func(host string) (verify.Registry, bool) { return up, host == "reg.example" },
		Limits: verify.Limits{
			ManifestBytes:    4 << 20,
			Descriptors:      2000,
			PayloadBytes:     8 << 20,
			VerdictBytes:     16 << 20,
			Signatures:       64,
			VerdictsInFlight: 64,
			VerifyTimeout:    time.Minute,
			ClientMisses:     1000,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return gate
}
