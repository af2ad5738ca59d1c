package e2e

import (
	"strings"
	"testing"
)

// TestClients pulls a signed and an unsigned image with every client.
func TestClients(t *testing.T) {
	registry := startDistribution(t)
	key, public := keyPair(t)
	signed := pushIndex(t, registry+"/team/signed:v1", 1<<20)
	signers["v3 bundle"](t, key, registry+"/team/signed@"+signed)
	unsigned := pushIndex(t, registry+"/team/unsigned:v1", 1<<10)
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			g := startGate(t, registry, public)
			pull := c.start(t, g)
			for _, image := range []string{"team/signed:v1", "team/signed@" + signed} {
				if out, err := pull(t, image); err != nil {
					t.Errorf("pull %s: %v\n%s", image, err, out)
				}
			}
			for _, image := range []string{"team/unsigned:v1", "team/unsigned@" + unsigned} {
				out, err := pull(t, image)
				if err == nil {
					t.Fatalf("pulled %s, which is not signed:\n%s", image, out)
				}
				want := "403 Forbidden"
				if c.shows {
					want = "no signature found (looked for: key \"release\")"
				}
				if !strings.Contains(strings.ReplaceAll(out, `\"`, `"`), want) {
					t.Errorf("pull %s: the refusal does not say %q:\n%s", image, want, out)
				}
			}
			if !g.decided("allowed", "team/signed") || !g.decided("denied", "team/unsigned") {
				t.Errorf("the decisions are not in the gate's log")
			}
		})
	}
}

// TestSignatures signs in every way, on every registry, and pulls.
func TestSignatures(t *testing.T) {
	need(t, "crane")
	key, public := keyPair(t)
	other, _ := keyPair(t)
	for name, startRegistry := range registries {
		t.Run(name, func(t *testing.T) {
			registry := startRegistry(t)
			g := startGate(t, registry, public)
			pull := startCrane(t, g)
			for way, sign := range signers {
				t.Run(way, func(t *testing.T) {
					repo := "by/" + strings.ReplaceAll(way, " ", "-")
					d := pushIndex(t, registry+"/"+repo+":v1", 100)
					if out, err := pull(t, repo+":v1"); err == nil || !strings.Contains(out, "no signature found") {
						t.Fatalf("before it is signed: %v\n%s", err, out)
					}
					sign(t, other, registry+"/"+repo+"@"+d)
					d2 := pushIndex(t, registry+"/"+repo+":v2", 100)
					sign(t, other, registry+"/"+repo+"@"+d2)
					if out, err := pull(t, repo+":v2"); err == nil || !strings.Contains(out, "made by another key") {
						t.Fatalf("signed by another key: %v\n%s", err, out)
					}
					d3 := pushIndex(t, registry+"/"+repo+":v3", 100)
					sign(t, other, registry+"/"+repo+"@"+d3)
					sign(t, key, registry+"/"+repo+"@"+d3)
					if out, err := pull(t, repo+":v3"); err != nil {
						t.Fatalf("signed: %v\n%s", err, out)
					}
				})
			}
		})
	}
}
