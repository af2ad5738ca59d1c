package profiles_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/pullgate/pullgate/proxy/upstream/credentials"
	"github.com/pullgate/pullgate/test/profiles"
)

// life is how long a registry takes a token.
func life(p profiles.Profile) time.Duration {
	if p.Tokens.Life == 0 {
		return 5 * time.Minute
	}
	return p.Tokens.Life
}

// wantsToken reports whether pulls from the registry need tokens.
func wantsToken(p profiles.Profile) bool {
	return p.Challenge.Kind != profiles.None && p.Challenge.Kind != profiles.Basic
}

// pullExpired: a token that has ended is replaced, and a client notices nothing.
// Before that one token is enough for all pulls of a repository.
func pullExpired(g *gate, p profiles.Profile) {
	first, second := g.pushSigned(p.Repository, "v1"), g.pushSigned(p.Repository, "v2")

	for range 3 {
		g.clock.advance(max(life(p), 5*time.Minute) + time.Second) // what the gate takes for the life of a token
		g.registry.Forget()
		g.pull(first)
		g.pull(second)
		if n := len(g.registry.At(profiles.RealmEndpoint)); wantsToken(p) && n != 1 {
			g.t.Errorf("the realm was asked %d times for one repository", n)
		}
		if n := g.registry.Refused(); n != 0 {
			g.t.Errorf("%d requests showed a token that had ended", n)
		}
	}
}

// pullRevoked: tokens that the registry refuses before their time, as after a
// change of its keys, are replaced within the request that finds out. All who come
// meanwhile share one new token.
func pullRevoked(g *gate, p profiles.Profile) {
	i := g.pushSigned(p.Repository, "v3")
	g.pull(i)

	for range 2 {
		g.registry.Rotate()
		g.registry.Forget()
		g.pull(i)
		if n := len(g.registry.At(profiles.RealmEndpoint)); wantsToken(p) && n != 1 {
			g.t.Errorf("the realm was asked %d times after a change of keys", n)
		}
	}

	g.registry.Rotate()
	g.registry.Forget()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for d, b := range i.blobs {
				g.ask(http.MethodGet, i.repository, "blobs/"+d.String()).served(b)
			}
		})
	}
	all.Wait()
	if n := len(g.registry.At(profiles.RealmEndpoint)); n > 1 {
		g.t.Errorf("the realm was asked %d times by clients that came at once", n)
	}
}

// pullChangedPassword: an account's password that has been changed is shown anew
// where the source knows the new one; where it does not, the answer names the gate's
// credentials, or says that the registry refused.
func pullChangedPassword(t *testing.T, p profiles.Profile) {
	if p.Challenge.Kind == profiles.None {
		return // it knows no accounts
	}
	const changed = "changed-" + profiles.Mark
	byPassword := p.Challenge.Kind == profiles.Basic

	show := password()
	g := newGate(t, p, show)
	images := g.images("v")
	g.pull(images[0])

	g.registry.ChangeSecret(changed)
	g.registry.Rotate()
	show.next = &credentials.Credentials{Username: profiles.User, Password: changed}
	if !byPassword { // the realm may refuse one pull; the next one shows what the source has then
		g.manifest(images[1].repository, images[1].tag)
	}
	g.pull(images[2])

	g.registry.ChangeSecret("another-" + profiles.Mark)
	g.registry.Rotate()
	a := g.manifest(images[3].repository, images[3].tag)
	if byPassword && p.Absent.Unreadable.Status == http.StatusForbidden {
		a.refused(http.StatusForbidden, "DENIED", "upstream refused: "+p.Host)
		return
	}
	a.refused(http.StatusBadGateway, "UNAVAILABLE", "the gate's credentials for "+p.Host+" were refused")
}

func pullWrongPassword(t *testing.T, p profiles.Profile) {
	if p.Challenge.Kind == profiles.None {
		return
	}
	g := newGate(t, p, wrongPassword())
	i := g.pushSigned(g.profile.Repository, "v1")

	for _, reference := range []string{i.tag, i.digest.String()} {
		g.manifest(i.repository, reference).refused(http.StatusBadGateway, "UNAVAILABLE",
			"the gate's credentials for "+p.Host+" were refused")
	}
}

// pullIdentityToken: a refresh token, as `docker login` keeps it, is posted where
// the realm knows that, and shown as a password where it does not.
func pullIdentityToken(t *testing.T, p profiles.Profile) {
	if !wantsToken(p) {
		return
	}
	g := newGate(t, p, identityToken())
	i := g.pushSigned(g.profile.Repository, "v1")
	g.registry.Add(i.repository, profiles.Private)
	g.pull(i)

	asked := g.registry.At(profiles.RealmEndpoint)
	want := 1
	if p.Tokens.Post != 0 {
		want = 2
	}
	if len(asked) != want || asked[0].Method != http.MethodPost {
		t.Errorf("the realm was asked %d times", len(asked))
	}
}
