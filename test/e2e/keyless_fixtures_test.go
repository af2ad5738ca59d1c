package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/test/fixtures"
	"github.com/pullgate/pullgate/test/fixtures/keyless"
)

// TestKeylessFixtures asks the built gate every question of the fixtures. Cases
// of the same trust roots share a gate, each with an upstream and a policy of
// its own.
func TestKeylessFixtures(t *testing.T) {
	set := keyless.Load(t)
	registry := httptest.NewServer(set)
	t.Cleanup(registry.Close)
	groups := map[string][]keyless.Case{}
	for _, c := range set.Cases {
		groups[c.TrustRoots] = append(groups[c.TrustRoots], c)
	}
	for roots, cases := range groups {
		t.Run(fmt.Sprintf("trustRoots %s", roots), func(t *testing.T) {
			dir := t.TempDir()
			if err := set.WriteFiles(dir); err != nil {
				t.Fatal(err)
			}
			var upstreams, policies strings.Builder
			for _, c := range cases {
				fmt.Fprintf(&upstreams, "  - {host: %s.test, url: %q}\n", c.Name, registry.URL)
				policies.WriteString(c.PolicyFor(c.Name + ".test"))
			}
			if roots != "" {
				roots = "trustRoots: " + roots
			}
			g := startGateOf(
				t,
				dir,
				fmt.Sprintf("%s\nupstreams:\n%spolicies:\n%s", roots, upstreams.String(), policies.String()),
			)
			for _, c := range cases {
				t.Run(c.Name, func(t *testing.T) {
					status, body := ask(t, g, c.Name+".test/"+c.Repository+"/manifests/"+c.Tag)
					switch {
					case c.Verdict == fixtures.Allowed:
						if status != http.StatusOK {
							t.Errorf("%s: %d %s", c.Why, status, body)
						}
					case status != http.StatusForbidden:
						t.Errorf("%s: %d %s", c.Why, status, body)
					default:
						if why := reasons(t, body); !regexp.MustCompile("(?i)" + c.Reason).MatchString(why) {
							t.Errorf("%s: refused, and not because of %s: %s", c.Why, c.Reason, why)
						}
					}
				})
			}
		})
	}
}

// ask is get for an image of any upstream.
func ask(t *testing.T, g *gate, image string) (status int, body string) {
	t.Helper()
	resp, err := http.Get("http://" + g.addr + "/v2/" + image)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// reasons is what a refusal says, without the names of image and policy.
func reasons(t *testing.T, body string) string {
	t.Helper()
	var answer struct{ Errors []struct{ Message string } }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || len(answer.Errors) != 1 {
		t.Fatalf("no refusal: %s (%v)", body, err)
	}
	_, all, found := strings.Cut(answer.Errors[0].Message, ` refused by policy "`)
	if !found {
		t.Fatalf("no reasons in %s", body)
	}
	_, all, _ = strings.Cut(all, `": `)
	return all
}
